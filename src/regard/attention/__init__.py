"""Attention as a library: tensors in, tensors out, every derivative exact.

`attend` computes it, a `Pattern` says which pairs may attend.
"""

from regard.attention.attend import attend
from regard.attention.dense import dense_attention
from regard.attention.pattern import Pattern, allowed_matrix
from regard.attention.patterns import Causal, Full, Local

__all__ = ["Causal", "Full", "Local", "Pattern", "allowed_matrix", "attend", "dense_attention"]
