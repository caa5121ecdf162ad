"""The training loop, checkpoints and plans; it knows models and batches, never a task."""
