"""The network, its starting weights, its losses and its metrics."""
