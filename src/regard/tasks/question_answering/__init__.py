"""Question answering: the place of an answer in a text, or that there is none."""
