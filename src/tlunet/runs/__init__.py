"""Run folders: their content, and how to read them."""
