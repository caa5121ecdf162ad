"""Qwen3 (Yang et al. 2025): Llama that normalises each head of queries and keys.

It is a `Gpt`. Its checkpoint format alone is here.
"""
