"""Classification of text, images, recordings and series."""
