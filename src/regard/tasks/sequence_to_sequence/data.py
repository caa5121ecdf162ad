"""Pairs of texts as token ids."""

from __future__ import annotations

import msgspec

from regard.data.batching import TokenRows
from regard.data.dropped_rows import DroppedRow
from regard.data.parallel_corpus import ParallelCorpus
from regard.errors import DataError
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens
from regard.hub.hugging_face.source_target_tokenizer import split_tokenizer


class EncodedPairs(msgspec.Struct, frozen=True, kw_only=True):
    """Sentence pairs as token ids.

    Args:
        sources: Token ids of the sources, without their ends.
        targets: Token ids of the targets, without begin and end.
        text: The same pairs as text.
        dropped: Pairs that were too long.
    """

    sources: TokenRows
    targets: TokenRows
    text: ParallelCorpus
    dropped: list[DroppedRow]


def encode_pairs(
    pairs: ParallelCorpus, tokenizer: AnyTokenizer, *, max_length: int
) -> EncodedPairs:
    """Return sentence pairs as token ids, without sides of more than `max_length` tokens.

    The special tokens that a published vocabulary puts before every text are added to both sides
    and not counted.

    Raises:
        DataError: No pair is left.
    """
    sources = tokenizer.encode(pairs.sources)
    targets = tokenizer.encode_targets(pairs.targets)
    longest = [max(len(s), len(t)) for s, t in zip(sources, targets, strict=True)]
    rows = [row for row, length in enumerate(longest) if length <= max_length]
    reason = f"longer than {max_length:,} tokens"
    dropped = [
        DroppedRow(line=pairs.lines[row], reason=reason, text=pairs.sources[row])
        for row, length in enumerate(longest)
        if length > max_length
    ]
    if not rows:
        raise DataError(
            f"{pairs.path}: every pair is longer than {max_length:,} tokens.  "
            "Raise the limit: `data.max_length=1024`"
        )
    source_tokenizer, target_tokenizer = split_tokenizer(tokenizer)
    return EncodedPairs(
        sources=TokenRows(prepend_special_tokens(source_tokenizer, (sources[row] for row in rows))),
        targets=TokenRows(prepend_special_tokens(target_tokenizer, (targets[row] for row in rows))),
        text=pairs if len(rows) == len(pairs) else pairs.select(rows),
        dropped=dropped,
    )
