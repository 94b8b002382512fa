"""Studies: configuration, sweeps, training and testing of cells."""
