"""A vocabulary, whether a run trained it or it came with published weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from regard.data.tokenizer import Tokenizer
from regard.hub.hugging_face.published_tokenizer import PublishedTokenizer

AnyTokenizer = Tokenizer | PublishedTokenizer
"""Both have the same methods; the id of a special token is None where a vocabulary lacks it."""


def prepend_special_tokens(
    tokenizer: AnyTokenizer, rows: Iterable[Sequence[int]]
) -> list[list[int]]:
    """Return rows of token ids, each after the ids that begin every text of a vocabulary."""
    return [[*tokenizer.begin_ids, *row] for row in rows]
