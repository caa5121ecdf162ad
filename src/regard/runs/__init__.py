"""One session of a run, from data to a model folder, and reports about it."""
