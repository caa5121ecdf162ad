"""Classification of texts that have any number of labels."""
