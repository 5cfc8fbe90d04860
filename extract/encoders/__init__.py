"""What image and video encoders share: tokens of a transformer as grids, and what stands for the whole image."""
