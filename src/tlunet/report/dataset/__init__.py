"""What is in a data set, as a page or a sheet."""
