"""The attention patterns, one file each. A new one is its file and a line in `PATTERNS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from regard.lazy import Registry, import_lazily

if TYPE_CHECKING:
    from regard.attention.patterns.base import Pattern
    from regard.attention.patterns.block_sparse import Blocks, RandomBlocks
    from regard.attention.patterns.causal import Causal
    from regard.attention.patterns.full import Full
    from regard.attention.patterns.global_ import Global
    from regard.attention.patterns.hierarchical import Hierarchical
    from regard.attention.patterns.local import Local, RelativeWindow
    from regard.attention.patterns.strided import Strided
    from regard.attention.patterns.top_k import TopK

import_lazily(__name__)


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


PATTERNS: Registry[ReadsText] = Registry(
    {
        "full": "regard.attention.patterns.full.Full",
        "causal": "regard.attention.patterns.causal.Causal",
        "local": "regard.attention.patterns.local.Local",
        "strided": "regard.attention.patterns.strided.Strided",
        "global": "regard.attention.patterns.global_.Global",
        "random": "regard.attention.patterns.block_sparse.RandomBlocks",
        "top_k": "regard.attention.patterns.top_k.TopK",
        "hierarchical": "regard.attention.patterns.hierarchical.Hierarchical",
    }
)
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
