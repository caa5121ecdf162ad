"""The blocks that every family of models is built from."""
