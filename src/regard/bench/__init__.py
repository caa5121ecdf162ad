"""What ``regard bench`` measures."""
