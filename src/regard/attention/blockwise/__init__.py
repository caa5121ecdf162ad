"""Attention in blocks of queries and keys, differentiable to any order."""
