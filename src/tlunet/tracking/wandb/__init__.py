"""Weights & Biases: runs, media, artifacts, dashboards."""
