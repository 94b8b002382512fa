"""Fit thresholds, minimum areas, gates and flips on the validation set."""
