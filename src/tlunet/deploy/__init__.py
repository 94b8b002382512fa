"""Use a trained network: tune, predict, export, demo."""
