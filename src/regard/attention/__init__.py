"""Attention as a library: tensors in, tensors out, every derivative exact.

`attend` computes it. A pattern decides which pairs may attend, a score how well they fit; a bias is
added by position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regard.lazy import Registry, import_lazily

if TYPE_CHECKING:
    from collections.abc import Callable

    from regard.attention.attend import attend
    from regard.attention.backends.saved_memory import peak_saved_bytes, saved_bytes
    from regard.attention.biases import Alibi, Bias, T5Relative, alibi_slopes
    from regard.attention.blockwise.combine import blockwise_attention
    from regard.attention.dense import AttentionOutput, dense_attention, masked_softmax
    from regard.attention.mesa.layer_function import MesaState, mesa
    from regard.attention.options import AttentionOptions, Lengths
    from regard.attention.patterns import (
        PATTERNS,
        Blocks,
        Causal,
        Full,
        Global,
        Hierarchical,
        Local,
        RandomBlocks,
        RelativeWindow,
        Strided,
        TopK,
    )
    from regard.attention.patterns.base import (
        LengthDependentPattern,
        MaskPattern,
        Pattern,
        ScoreDependentPattern,
        allowed_matrix,
    )
    from regard.attention.patterns.mask_algebra import MaskTerm
    from regard.attention.patterns.text import format_pattern, parse_pattern
    from regard.attention.scores import (
        Additive,
        Cosine,
        DotProduct,
        ScoreFunction,
        TransformerXL,
    )

import_lazily(__name__)

SCORES: Registry[Callable[..., ScoreFunction]] = Registry(
    {
        "dot": "regard.attention.scores.DotProduct",
        "cosine": "regard.attention.scores.Cosine",
        "additive": "regard.attention.scores.Additive",
        "transformer_xl": "regard.attention.scores.TransformerXL",
    }
)
"""Classes of scores by name."""
BIASES: Registry[Callable[..., Bias]] = Registry(
    {"alibi": "regard.attention.biases.Alibi", "t5": "regard.attention.biases.T5Relative"}
)
"""Classes of biases by position, by name."""

__all__ = [
    "BIASES",
    "PATTERNS",
    "SCORES",
    "Additive",
    "Alibi",
    "AttentionOptions",
    "AttentionOutput",
    "Bias",
    "Blocks",
    "Causal",
    "Cosine",
    "DotProduct",
    "Full",
    "Global",
    "Hierarchical",
    "LengthDependentPattern",
    "Lengths",
    "Local",
    "MaskPattern",
    "MaskTerm",
    "MesaState",
    "Pattern",
    "RandomBlocks",
    "RelativeWindow",
    "ScoreDependentPattern",
    "ScoreFunction",
    "Strided",
    "T5Relative",
    "TopK",
    "TransformerXL",
    "alibi_slopes",
    "allowed_matrix",
    "attend",
    "blockwise_attention",
    "dense_attention",
    "format_pattern",
    "masked_softmax",
    "mesa",
    "parse_pattern",
    "peak_saved_bytes",
    "saved_bytes",
]
