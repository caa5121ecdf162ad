"""Faster ways to compute the value and the first derivative of attention."""
