"""From a configuration to run folders and tables of results."""
