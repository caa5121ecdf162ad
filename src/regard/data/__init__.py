"""From a file on disk to a `Batch` of token ids."""
