"""One session of a run, from a file to a model folder, and what is told about it."""
