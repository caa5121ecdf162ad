"""Transformers you can train, solve, scale and see, on your own text."""
