"""Pairs of texts made ready for training: cleaned, split, and encoded as token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import msgspec
import numpy as np
from msgspec.structs import replace

from regard.data.batching import TokenRows, parts_to_encode
from regard.data.dropped_rows import DroppedRow
from regard.data.splits import Splits, clean, count_near_duplicates
from regard.errors import DataError
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens, split_tokenizer
from regard.setup.facts import DataDetails
from regard.setup.held_out import split_rows

if TYPE_CHECKING:
    from regard.data.parallel_corpus import ParallelCorpus
    from regard.data.readers.source import DataSource
    from regard.setup.dataset import ReadOptions


class TextPairs(Protocol):
    """Rows with a source and a target each, in columns."""

    @property
    def path(self) -> str:
        """The file."""
        ...

    @property
    def sources(self) -> list[str]:
        """One source a row."""
        ...

    @property
    def targets(self) -> list[str]:
        """One target a row."""
        ...

    def __len__(self) -> int: ...

    def select(self, rows: Iterable[int]) -> Self:
        """Return the rows at some indices."""
        ...

    def drop(self, row: int, reason: str) -> DroppedRow:
        """Return the entry of a row that was left out."""
        ...


P = TypeVar("P", bound=TextPairs)
"""Rows with a source and a target each."""


def read_parts(
    options: ReadOptions,
    pairs: ParallelCorpus,
    read: Callable[[DataSource], ParallelCorpus],
    *,
    max_chars: int = 5000,
) -> Splits[ParallelCorpus]:
    """Return pairs cleaned and split; validation and test data of their own stay whole.

    Args:
        options: How the data of the run is read.
        pairs: The pairs to train on.
        read: Reads a file of validation or test data.
        max_chars: Maximum number of characters of a text.

    Returns:
        The parts, and all rows of the training data that were left out.

    Raises:
        DataError: A file is malformed, or overlaps with the training data.
    """
    cleaned, dropped = clean(pairs, max_chars=max_chars)

    def read_clean(source: DataSource) -> ParallelCorpus:
        return clean(read(source), max_chars=max_chars, min_pairs=1)[0]

    parts = split_rows(options, cleaned, read_clean)
    return replace(parts, dropped=[*dropped, *parts.dropped])


def describe_pairs(parts: Sequence[ParallelCorpus], roles: tuple[str, str]) -> DataDetails:
    """Return what a report on pairs says beyond their number: the lengths of both sides.

    Args:
        parts: Pairs for training, validation and test.
        roles: What the two sides hold.
    """
    train, lengths, lines = parts[0], {}, []
    for role, texts in zip(roles, (train.sources, train.targets), strict=True):
        sizes = np.array([len(text) for text in texts])
        percentiles = {f"p{p}": float(np.percentile(sizes, p)) for p in (50, 95, 99)}
        figures = {"mean": float(sizes.mean()), **percentiles, "longest": float(sizes.max())}
        values = "   ".join(f"{name} {value:,.0f}" for name, value in figures.items())
        lengths[role] = figures
        lines.append(("Length", f"{role}: {values}   (characters)"))
    return DataDetails(
        fields={"lengths": lengths},
        lines=lines,
        num_near_duplicates=sum(map(count_near_duplicates, parts)),
    )


class EncodedPairs(msgspec.Struct, Generic[P], frozen=True, kw_only=True):
    """Pairs of texts as token ids.

    Args:
        sources: Token ids of the sources, without their ends.
        targets: Token ids of the targets, without begin and end.
        text: The same pairs as text.
        dropped: Pairs that were too long.
        truncated: Pairs whose source was cut.
        longest_source: Tokens of the longest source before that.
    """

    sources: TokenRows
    targets: TokenRows
    text: P
    dropped: list[DroppedRow]
    truncated: list[DroppedRow] = []
    longest_source: int = 0


def encode_pairs(
    pairs: P,
    tokenizer: AnyTokenizer,
    *,
    max_length: int,
    max_source_length: int | None = None,
    encode_sources: Callable[[P], list[list[int]]] | None = None,
) -> EncodedPairs[P]:
    """Return pairs of texts as token ids, without sides that are too long.

    The special tokens that a published vocabulary puts before every text are added to both sides
    and not counted.

    Args:
        pairs: The texts.
        tokenizer: The vocabulary.
        max_length: Maximum number of tokens of a side; a pair with more is left out.
        max_source_length: Maximum number of tokens of a source, of which the end is cut off,
            whatever `max_length` is; None leaves out a pair with a longer source.
        encode_sources: Returns the token ids of the sources; None encodes their texts.

    Raises:
        DataError: No pair is left.
    """
    source_tokenizer, target_tokenizer = split_tokenizer(tokenizer)
    source_lengths: list[int] = []  # before they are cut: known once `sources` is encoded

    def encode_cut_sources() -> Iterator[list[int]]:
        for part in parts_to_encode(pairs.sources, "encoding the sources"):
            texts = pairs.select(part)
            ids = encode_sources(texts) if encode_sources else tokenizer.encode(texts.sources)
            source_lengths.extend(map(len, ids))
            cut = (row[:max_source_length] for row in ids)
            yield from prepend_special_tokens(source_tokenizer, cut)

    def encode_targets() -> Iterator[list[int]]:
        for part in parts_to_encode(pairs.targets, "encoding the targets"):
            ids = tokenizer.encode_targets(pairs.targets[part.start : part.stop])
            yield from prepend_special_tokens(target_tokenizer, ids)

    sources, targets = TokenRows(encode_cut_sources()), TokenRows(encode_targets())
    longest = targets.lengths - len(target_tokenizer.begin_ids)
    reason, truncated = f"longer than {max_length:,} tokens", []
    if max_source_length is None:
        longest = np.maximum(longest, source_lengths)
    else:
        reason = f"target {reason}"
        is_cut = (longest <= max_length) & (np.array(source_lengths) > max_source_length)
        cut_to = f"cut to {max_source_length:,} tokens"
        truncated = [pairs.drop(row, cut_to) for row in np.flatnonzero(is_cut).tolist()]
    rows = np.flatnonzero(longest <= max_length)
    if not len(rows):
        raise DataError(
            f"{pairs.path}: every pair is longer than {max_length:,} tokens.  "
            "Raise the limit: `data.max_length=1024`"
        )
    is_whole = len(rows) == len(pairs)
    return EncodedPairs(
        sources=sources if is_whole else sources.select(rows),
        targets=targets if is_whole else targets.select(rows),
        text=pairs if is_whole else pairs.select(rows.tolist()),
        dropped=[pairs.drop(row, reason) for row in np.flatnonzero(longest > max_length).tolist()],
        truncated=truncated,
        longest_source=max(source_lengths, default=0),
    )
