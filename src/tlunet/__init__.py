"""TLU-Net: how much does transfer learning help joint steel-defect segmentation and classification?"""
