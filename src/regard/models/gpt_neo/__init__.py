"""GPT-Neo (Black et al. 2021): GPT-2 with a window in every other layer, and scores as they are.

It is a `Gpt`. Its checkpoint format alone is here.
"""
