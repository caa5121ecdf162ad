"""GPT-NeoX and Pythia (Black et al. 2022; Biderman et al. 2023): parallel, partly rotated GPT.

It is a `Gpt`. Its checkpoint format alone is here.
"""
