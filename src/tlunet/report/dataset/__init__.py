"""Overview of a data set, as a page or a sheet."""
