"""Llama (Touvron et al. 2023): a `Gpt` with its default settings.

RMS norm, rotary positions, SwiGLU, no biases; heads may share keys and values. Its checkpoint
format alone is here.
"""
