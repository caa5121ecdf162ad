"""Attention as a library: tensors in, tensors out, every derivative exact.

`attend` computes it; a pattern says which pairs may attend, a score how well they fit, a bias what
is added by position.
"""

from regard.attention.attend import attend
from regard.attention.backends.saved_memory import kept_bytes, most_kept_bytes
from regard.attention.biases import BIASES, Alibi, Bias, T5Relative, alibi_slopes
from regard.attention.blockwise.combine import blockwise_attention
from regard.attention.dense import dense_attention, masked_softmax
from regard.attention.mesa.layer_function import MesaState, mesa
from regard.attention.options import Terms
from regard.attention.patterns import (
    Blocks,
    Causal,
    Full,
    Global,
    Hierarchical,
    Local,
    LocalShare,
    RandomBlocks,
    Strided,
    TopK,
)
from regard.attention.patterns.base import NoMask, Pattern, allowed_matrix
from regard.attention.patterns.text import format_pattern, parse_pattern
from regard.attention.scores import SCORES, Additive, Cosine, DotProduct, Score, TransformerXL

__all__ = [
    "BIASES",
    "SCORES",
    "Additive",
    "Alibi",
    "Bias",
    "Blocks",
    "Causal",
    "Cosine",
    "DotProduct",
    "Full",
    "Global",
    "Hierarchical",
    "Local",
    "LocalShare",
    "MesaState",
    "NoMask",
    "Pattern",
    "RandomBlocks",
    "Score",
    "Strided",
    "T5Relative",
    "Terms",
    "TopK",
    "TransformerXL",
    "alibi_slopes",
    "allowed_matrix",
    "attend",
    "blockwise_attention",
    "dense_attention",
    "format_pattern",
    "kept_bytes",
    "masked_softmax",
    "mesa",
    "most_kept_bytes",
    "parse_pattern",
]
