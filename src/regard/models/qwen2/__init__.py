"""Qwen2 (Yang et al. 2024): Llama with biases of queries, keys and values, and windows.

It is a `Gpt`. Its checkpoint format, which Qwen2.5 has too, alone is here.
"""
