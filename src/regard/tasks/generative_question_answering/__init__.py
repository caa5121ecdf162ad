"""Question answering by a model that writes the answer."""
