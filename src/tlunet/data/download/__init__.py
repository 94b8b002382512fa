"""Download and check published data sets."""
