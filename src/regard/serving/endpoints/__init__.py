"""What the service answers to: one file a group of paths, each with its ``routes``."""
