"""Learning from images without masks."""
