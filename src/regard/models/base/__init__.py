"""What all families are built on."""
