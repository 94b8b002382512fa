"""From raw images and annotations to batches."""
