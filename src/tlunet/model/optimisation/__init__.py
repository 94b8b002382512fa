"""How weights change from step to step: optimiser, learning rate, average."""
