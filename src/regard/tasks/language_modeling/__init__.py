"""Language modeling and text generation."""
