"""What tasks share whose models write a target for a source."""
