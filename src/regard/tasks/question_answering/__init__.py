"""Question answering: the position of an answer in a text, or that the text has none."""
