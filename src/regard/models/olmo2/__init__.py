"""OLMo 2 (Team OLMo 2024): Llama with norms of outputs, and of all heads of queries and of keys.

It is a `Gpt`. Its checkpoint format alone is here.
"""
