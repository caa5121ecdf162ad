"""A vocabulary, whether a run trained it or it came with published weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from regard.data.tokenizer import Tokenizer
    from regard.hub.hugging_face.published_tokenizer import PublishedTokenizer

AnyTokenizer: TypeAlias = "Tokenizer | PublishedTokenizer"
"""Both have the same methods; the id of a special token is None where a vocabulary lacks it."""


def prepend_special_tokens(
    tokenizer: AnyTokenizer, rows: Iterable[Sequence[int]]
) -> list[list[int]]:
    """Return rows of token ids, each after the ids that begin every text of a vocabulary."""
    return [[*tokenizer.begin_ids, *row] for row in rows]


def split_tokenizer(tokenizer: AnyTokenizer) -> tuple[AnyTokenizer, AnyTokenizer]:
    """Return the vocabularies of sources and targets, which may be one and the same."""
    return getattr(tokenizer, "source", tokenizer), getattr(tokenizer, "target", tokenizer)
