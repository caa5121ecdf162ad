"""The Mesa layer: attention that solves a least-squares problem by conjugate gradient."""
