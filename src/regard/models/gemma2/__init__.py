"""Gemma 2 (Gemma Team 2024): Gemma with bounded scores, more norms, and every other layer local.

It is a `Gpt`. Its checkpoint format alone is here.
"""
