"""A vocabulary, whether a run trained it or it came with published weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from regard.data.tokenizer import Tokenizer
    from regard.hub.hugging_face.base_tokenizer import PublishedTokenizer

AnyTokenizer: TypeAlias = "Tokenizer | PublishedTokenizer"
"""Both have the same methods; the id of a special token is None where a vocabulary lacks it."""


def vocabulary_of_languages(tokenizer: AnyTokenizer) -> PublishedTokenizer | None:
    """Return a published vocabulary with tokens of languages around texts; None for another."""
    return None if tokenizer.languages is None else cast("PublishedTokenizer", tokenizer)


def first_id_of(tokenizer: AnyTokenizer) -> int | None:
    """Return the id that every output begins with, that of its language; None for no such one."""
    return None if tokenizer.languages is None else tokenizer.languages.first_id


def prepend_special_tokens(
    tokenizer: AnyTokenizer, rows: Iterable[Sequence[int]]
) -> list[list[int]]:
    """Return rows of token ids, each after the ids that begin every text of a vocabulary."""
    return [[*tokenizer.begin_ids, *row] for row in rows]


def split_tokenizer(tokenizer: AnyTokenizer) -> tuple[AnyTokenizer, AnyTokenizer]:
    """Return the vocabularies of sources and targets, which may be one and the same.

    One of many languages puts other tokens around targets than around sources.
    """
    if (published := vocabulary_of_languages(tokenizer)) is not None:
        return published, published.of_targets()
    return getattr(tokenizer, "source", tokenizer), getattr(tokenizer, "target", tokenizer)
