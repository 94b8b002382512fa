"""What a trained network is used for: predictions on images that nobody has annotated."""
