"""Gemma (Gemma Team 2024): Llama with gated GELU, zero-centered norms and scaled embeddings.

It is a `Gpt`. Its checkpoint format alone is here.
"""
