"""Experiment trackers: W&B, TensorBoard."""
