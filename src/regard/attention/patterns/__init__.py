"""The attention patterns, one file each. A new one is its file and a line in `PATTERNS`."""

from typing import Protocol

from regard.attention.patterns.base import Pattern
from regard.attention.patterns.block_sparse import Blocks, RandomBlocks
from regard.attention.patterns.causal import Causal
from regard.attention.patterns.full import Full
from regard.attention.patterns.global_ import Global
from regard.attention.patterns.hierarchical import Hierarchical
from regard.attention.patterns.local import Local, RelativeWindow
from regard.attention.patterns.strided import Strided
from regard.attention.patterns.top_k import TopK


class ReadsText(Protocol):
    """A pattern class that reads its text form."""

    synopsis: str
    """Its forms in a list of all, such as ``local:B, local:B,A``."""
    text_form: str
    """What is expected of a text, with an example."""

    def from_text(self, arguments: str | None, *, is_decoder: bool) -> Pattern:
        """Read a pattern.

        Args:
            arguments: What follows ``name:``, without spaces; None without a colon.
            is_decoder: Prefer the causal form where the text leaves it open.

        Raises:
            ConfigError: The class has another form, which the message names.
        """
        ...


PATTERNS: dict[str, ReadsText] = {
    "full": Full,
    "causal": Causal,
    "local": Local,
    "strided": Strided,
    "global": Global,
    "random": RandomBlocks,
    "top_k": TopK,
    "hierarchical": Hierarchical,
}
"""Pattern classes by the name that begins their text form."""

__all__ = [
    "PATTERNS",
    "Blocks",
    "Causal",
    "Full",
    "Global",
    "Hierarchical",
    "Local",
    "RandomBlocks",
    "ReadsText",
    "RelativeWindow",
    "Strided",
    "TopK",
]
