"""OPT (Zhang et al. 2022): GPT with ReLU, and two unused rows before its positions.

It is a `Gpt`. Its checkpoint format alone is here.
"""
