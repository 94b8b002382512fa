"""TLU-Net: transfer learning in joint steel-defect segmentation and classification."""
