"""Vision Transformer (Dosovitskiy et al. 2021): an encoder of images and of rows of features."""
