"""Convolutional sequence to sequence learning (Gehring et al. 2017) and its decoder alone."""
