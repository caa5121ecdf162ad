"""Phi-3 and Phi-4 (Abdin et al. 2024): Llama with a window, and weights in fewer tensors.

It is a `Gpt`. Its checkpoint format alone is here.
"""
