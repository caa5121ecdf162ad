"""Model folders and published checkpoints: read, written and exported."""
