"""The attention patterns, one file each."""

from regard.attention.patterns.block_sparse import Blocks
from regard.attention.patterns.causal import Causal
from regard.attention.patterns.full import Full
from regard.attention.patterns.global_ import Global
from regard.attention.patterns.hierarchical import Hierarchical
from regard.attention.patterns.local import Local
from regard.attention.patterns.relative import RandomBlocks, RelativeWindow
from regard.attention.patterns.strided import Strided
from regard.attention.patterns.top_k import TopK

__all__ = [
    "Blocks",
    "Causal",
    "Full",
    "Global",
    "Hierarchical",
    "Local",
    "RandomBlocks",
    "RelativeWindow",
    "Strided",
    "TopK",
]
