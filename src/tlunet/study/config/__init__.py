"""Reading and checking the command line and its configuration."""
