"""Pictures of test images with their masks, and the image browser."""
