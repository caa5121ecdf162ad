"""Gemma 3 (Gemma Team 2025): Gemma 2 with norms of heads, and angles of their own in local layers.

It is a `Gpt`. Its checkpoint format alone is here, that of models of text.
"""
