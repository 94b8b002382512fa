"""Convert other formats (COCO, YOLO) to a folder of images and masks."""
