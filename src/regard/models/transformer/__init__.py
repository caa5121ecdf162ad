"""The Transformer of 2017."""
