"""A model folder read and written, file by file, so that nothing is lost."""
