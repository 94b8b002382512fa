"""Synthetic steel: strips for training, sheets for pre-training."""
