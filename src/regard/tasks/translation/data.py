"""Sentence pairs made ready for training: read, cleaned, split, turned into token ids."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from regard.data.batching import TokenRows
from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.languages import guess_pair
from regard.data.listing import describe_lines
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.source import DataSource
from regard.data.readers.tables import read_pairs
from regard.data.splits import check_overlap, clean, split, without_overlap
from regard.errors import DataError
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens
from regard.hub.hugging_face.source_target_tokenizer import split_tokenizer
from regard.setup.base_task import ReadOptions
from regard.setup.config import DataConfig
from regard.setup.facts import DataFacts
from regard.training.events import DataSummary


class Corpus(msgspec.Struct, kw_only=True):
    """The text of a run.

    Args:
        path: File as named.
        train: Pairs to learn from.
        valid: Pairs that choose the best weights.
        test: Pairs held out for the final figures; may be empty.
        dropped: Rows left out, with the reason.
        languages: Codes such as ``en-de``, or empty.
        languages_are_guessed: Whether the languages were found by looking at the text.
        is_generated: Whether the text comes from no file.
    """

    path: str
    train: ParallelCorpus
    valid: ParallelCorpus
    test: ParallelCorpus
    dropped: list[DroppedRow]
    languages: str
    languages_are_guessed: bool
    is_generated: bool = False

    @property
    def target_language(self) -> str | None:
        """Code of the target language, where known."""
        return self.languages.partition("-")[2] or None

    def facts(self) -> DataFacts:
        """Return the size, in characters of the training targets, and the languages."""
        num_chars = sum(map(len, self.train.targets))
        return DataFacts(num_chars=num_chars, languages=self.languages)

    def summary(self) -> DataSummary:
        """Describe the pairs in an event."""
        return DataSummary(
            path=self.path,
            unit="pairs",
            languages=self.languages.replace("-", " -> ") or "languages not known",
            languages_are_guessed=self.languages_are_guessed,
            num_train=len(self.train),
            num_valid=len(self.valid),
            num_test=len(self.test),
            dropped=count_reasons(self.dropped),
        )

    def texts(self) -> list[str]:
        """Return all training sentences, sources first."""
        return [*self.train.sources, *self.train.targets]

    def locate(self, rows: Sequence[int]) -> str:
        """Describe where training rows are in the file, such as ``lines 12, 88, 204 and 29 more``.

        Args:
            rows: Indices into `train`, one or more, from 0.
        """
        noun = "row" if self.is_generated else "line"
        return describe_lines([self.train.lines[row] for row in rows], noun)


def read_corpus(options: ReadOptions) -> Corpus:
    """Read the pairs that settings name, and split off what they do not name.

    Raises:
        DataError: A file is missing, malformed, or overlaps with another.
    """
    config = options.data
    pairs, dropped = clean(_read(options, "path", targets=options.source("targets")))
    parts = split(
        pairs,
        seed=options.seed,
        valid_rows=0 if config.valid else None,
        test_rows=0 if config.test else None,
    )
    train, valid, test = parts.train, parts.valid, parts.test
    if config.valid:
        valid = _read_held_out(options, "valid", train)
    if config.test:
        test = _read_held_out(options, "test", train)
    languages, guessed = _languages(config, train)
    return Corpus(
        path=train.path,
        train=train,
        valid=valid,
        test=test,
        dropped=[*dropped, *parts.dropped],
        languages=languages,
        languages_are_guessed=guessed,
    )


def columns_of(data: DataConfig) -> tuple[str, str] | None:
    """Return the columns of source and target, where they are named."""
    return (data.columns[0], data.columns[1]) if data.columns else None


def _read(options: ReadOptions, name: str, *, targets: DataSource | None = None) -> ParallelCorpus:
    source = options.source(name)
    assert source is not None
    data = options.data
    return read_pairs(source, targets=targets, encoding=data.encoding, columns=columns_of(data))


def _read_held_out(options: ReadOptions, name: str, train: ParallelCorpus) -> ParallelCorpus:
    pairs, _ = clean(_read(options, name), min_pairs=1)
    if options.data.drop_overlap:
        return without_overlap(train, pairs)
    if not options.data.allow_overlap:
        check_overlap(train, pairs)
    return pairs


def _languages(config: DataConfig, train: ParallelCorpus) -> tuple[str, bool]:
    if config.languages:
        return config.languages, False
    source, target = guess_pair(train, train.path)
    return (f"{source}-{target}" if source and target else ""), True


class EncodedPairs(msgspec.Struct, frozen=True, kw_only=True):
    """Token ids of sentence pairs; row i of both sides is one pair."""

    sources: TokenRows
    targets: TokenRows


def encode_pairs(
    pairs: ParallelCorpus, tokenizer: AnyTokenizer, *, max_length: int
) -> tuple[EncodedPairs, ParallelCorpus, list[DroppedRow]]:
    """Turn pairs into token ids, leaving out those with a side of more than `max_length` tokens.

    What a published vocabulary begins every text with stands before both sides, and is not counted.

    Returns:
        The ids, the pairs they belong to, and what was left out.

    Raises:
        DataError: Nothing is left.
    """
    sources = tokenizer.encode(pairs.sources)
    targets = tokenizer.encode_targets(pairs.targets)
    longest = [max(len(s), len(t)) for s, t in zip(sources, targets, strict=True)]
    kept = [row for row, length in enumerate(longest) if length <= max_length]
    reason = f"longer than {max_length:,} tokens"
    dropped = [
        DroppedRow(line=pairs.lines[row], reason=reason, text=pairs.sources[row])
        for row, length in enumerate(longest)
        if length > max_length
    ]
    if not kept:
        raise DataError(
            f"{pairs.path}: every pair is longer than {max_length:,} tokens.  "
            "Raise the limit: `data.max_length=1024`"
        )
    of_sources, of_targets = split_tokenizer(tokenizer)
    encoded = EncodedPairs(
        sources=TokenRows(prepend_special_tokens(of_sources, (sources[row] for row in kept))),
        targets=TokenRows(prepend_special_tokens(of_targets, (targets[row] for row in kept))),
    )
    return encoded, (pairs if len(kept) == len(pairs) else pairs.select(kept)), dropped


def summarize_lengths(corpus: Corpus) -> dict[str, dict[str, float]]:
    """Summarise the lengths of training sentences in characters, for each side."""
    sides = {"source": corpus.train.sources, "target": corpus.train.targets}
    figures = {}
    for side, texts in sides.items():
        lengths = np.array([len(text) for text in texts])
        shown = {f"p{share}": float(np.percentile(lengths, share)) for share in (50, 95, 99)}
        figures[side] = {"mean": float(lengths.mean()), **shown, "longest": float(lengths.max())}
    return figures
