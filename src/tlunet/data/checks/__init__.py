"""Check and describe a data set before anything is built from it."""
