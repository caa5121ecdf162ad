"""Mistral (Jiang et al. 2023): Llama whose tokens see a window of those before them.

It is a `Gpt`. Its checkpoint format alone is here.
"""
