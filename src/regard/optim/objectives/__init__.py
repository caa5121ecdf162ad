"""What deterministic methods minimize."""
