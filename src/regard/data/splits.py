"""Cleaning of sentence pairs, and the split of rows into training, validation and test.

Two rows whose sources or targets are equal (except for case, width, spacing and punctuation) must
not be in different parts, or the scores would be too good.  Such rows form groups, found by
union-find (B. Galler and M. Fischer, "An improved equivalence algorithm", 1964), and a group is in
one part.  A hash of its text decides which one, so that a row more or less moves hardly any other.
Rows with labels are split in proportion to them (stratified), and every label has a training row.
Cost: linear in the text, about a second for 100,000 rows.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.labeled_inputs import LabeledInputs
from regard.data.labeled_text import LabeledTexts
from regard.data.listing import spell_number
from regard.data.parallel_corpus import ParallelCorpus, describe_labels
from regard.data.progress import tracked
from regard.data.question_rows import Questions
from regard.data.rows import Rows
from regard.data.split_rules import EARLIER_SPLIT, SPLIT_RULE
from regard.errors import DataError

_DEFAULT_FRACTION = 0.025  # of the rows in each held-out part
_ENOUGH_ROWS = 50  # in a part of small data, so that a few rows do not decide when training ends
_SMALL_FRACTION = 0.1  # of small data, at most
_FEW_ROWS, _LARGEST_FRACTION = 10, 0.2  # in a part of tiny data, and the fraction at most
_MAX_FRACTION = 0.1  # of the rows in the first group of a held-out part
_MAX_ROWS = 1000  # enough for a chrF interval of about a point
_MAX_LOSS = 0.1  # fraction of the rows that may be dropped for held-out parts of full size
_MAX_LOSS_FOR_ANY = 0.5  # fraction that may be dropped for a held-out part of any size
_FORMAT = (("Cf",), "\ufe0e\ufe0f")  # characters without a width, and variants of emoji
_PUNCTUATION = (("P",), "`")
_ASCII_PUNCTUATION = str.maketrans(dict.fromkeys("!\"#%&'()*,-./:;?@[\\]_{}`", " "))  # the same
_NUM_CODES = 0x10000  # the basic plane: a set of characters beyond it is slow to search
_TRAIN, _VALID, _TEST, _DROPPED = range(4)
_SPLITTING = "splitting the rows"
_COMPARING = "comparing with the training rows"
_COMPARED = "comparing the rows"


R = TypeVar("R", bound=Rows)
T = TypeVar("T", ParallelCorpus, LabeledTexts, LabeledInputs, Questions)
TextRows = TypeVar("TextRows", ParallelCorpus, LabeledTexts, Questions)
"""Rows with a text of their own, and maybe a second one."""


class Splits(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Rows for training, validation and test, and those dropped since they would have leaked."""

    train: R
    valid: R
    test: R
    dropped: list[DroppedRow]


def clean(
    pairs: ParallelCorpus, *, max_chars: int = 5000, min_pairs: int = 10
) -> tuple[ParallelCorpus, list[DroppedRow]]:
    """Drop empty, too long and repeated rows, and strip the space around the others.

    Args:
        pairs: Pairs as they were read.
        max_chars: Maximum number of characters of a source or target.
        min_pairs: Minimum number of pairs to accept: 10 to train on, 1 to test on.

    Returns:
        The remaining rows, and one entry for each row dropped, both in the order of the file.

    Raises:
        DataError: Fewer than `min_pairs` distinct pairs are left.
    """
    cleaned, drops = ParallelCorpus(path=pairs.path, sources=[], targets=[], lines=[]), []
    seen: set[tuple[str, str]] = set()
    rows = zip(map(str.strip, pairs.sources), map(str.strip, pairs.targets), strict=True)
    numbered = zip(pairs.lines, rows, strict=True)
    for line, (source, target) in tracked(numbered, "cleaning the rows", len(pairs)):
        reason = _reason_to_drop(source, target, max_chars, seen)
        if reason:
            drops.append(DroppedRow(line=line, reason=reason, text=source or target))
            continue
        seen.add((source, target))
        cleaned.sources.append(source)
        cleaned.targets.append(target)
        cleaned.lines.append(line)
    if len(cleaned) < max(1, min_pairs):
        raise DataError(f"{pairs.path}: {_describe_too_few(len(cleaned), drops, min_pairs)}")
    return cleaned, drops


def _reason_to_drop(source: str, target: str, max_chars: int, seen: set[tuple[str, str]]) -> str:
    """Return why a pair is dropped: empty, too long, or seen before; empty if it is not."""
    if not source or not target:
        return "empty side"
    if max(len(source), len(target)) > max_chars:
        return f"longer than {max_chars:,} characters"
    return "repeated pair" if (source, target) in seen else ""


def _describe_too_few(num_pairs: int, drops: Sequence[DroppedRow], min_pairs: int) -> str:
    num_rows = num_pairs + len(drops)
    counts = count_reasons(drops)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    if not num_rows:
        return "no usable pair: there are no rows."
    if not num_pairs:
        rows = "the only row was" if num_rows == 1 else f"all {num_rows:,} rows were"
        return f"no usable pair: {rows} dropped ({reasons})."
    noun, rows = "pair" if num_pairs == 1 else "pairs", "row" if num_rows == 1 else "rows"
    dropped = f"  Dropped: {reasons}." if counts.keys() - {"repeated pair"} else ""
    return (
        f"only {spell_number(num_pairs)} distinct {noun} in {num_rows:,} {rows}.  "
        f"Training needs at least {min_pairs:,}.{dropped}"
    )


def rows_to_hold_out(num_rows: int, *, rule: int = SPLIT_RULE) -> int:
    """Return the number of rows that a run holds out for each of validation and test.

    It is 2.5 % of the rows, at most 1,000. Small data holds out more: with too few rows chance
    decides when training ends.

    Args:
        num_rows: Rows of the data.
        rule: `EARLIER_SPLIT` takes 2.5 % of small data, too.

    >>> [rows_to_hold_out(rows) for rows in (10, 40, 80, 200, 1000, 2000, 20_000, 1_000_000)]
    [2, 8, 10, 20, 50, 50, 500, 1000]
    """
    part = _small_part(num_rows)
    if rule == EARLIER_SPLIT:
        return part
    few = min(_FEW_ROWS, int(_LARGEST_FRACTION * num_rows))
    return max(part, few, min(_ENOUGH_ROWS, round(_SMALL_FRACTION * num_rows)))


def _small_part(num_rows: int) -> int:
    return max(1, min(_MAX_ROWS, round(_DEFAULT_FRACTION * num_rows)))


def split(
    rows: T, *, seed: int, valid_rows: int | None = None, test_rows: int | None = None
) -> Splits[T]:
    """Hold out rows for validation and test that share no source and no target with the rest.

    Rows that occur once are held out first, then small groups of rows that share a text.  Where
    groups are too large for that, single rows are held out and those that share a text with them
    are dropped.

    Args:
        rows: Sentence pairs, cleaned, or texts or inputs with labels.
        seed: Seed of the choice; the same seed and rows give the same parts, in any order of the
            rows.
        valid_rows: Rows to validate on, about; None is 2.5 % of the rows, 1 to 1,000.
        test_rows: Rows to test on, about; None is 2.5 % of the rows, 1 to 1,000.

    Returns:
        The parts, each in the order of the file; every row is in one of them or in ``dropped``.

    Raises:
        DataError: There are too few rows, or all of them share a source or a target.
    """
    num_rows = len(rows)
    default = _small_part(num_rows)
    sizes = [default if size is None else size for size in (valid_rows, test_rows)]
    if sum(sizes) >= num_rows:
        raise DataError(
            f"{rows.path}: cannot hold out {sizes[0]:,} + {sizes[1]:,} rows of {num_rows:,}.  "
            "Add rows, or name files of your own: `data.valid=FILE`, `data.test=FILE`"
        )
    parts = _assign_parts(rows, sizes, seed)
    train, valid, test, leaking = (np.flatnonzero(parts == part).tolist() for part in range(4))
    _require_held_out(rows, sizes, (valid, test))
    return Splits(
        train=rows.select(train),
        valid=rows.select(valid),
        test=rows.select(test),
        dropped=[rows.drop(row, "repeats across splits") for row in leaking],
    )


def _require_held_out(rows: Rows, sizes: Sequence[int], parts: Sequence[list[int]]) -> None:
    """Raise `DataError` where no row is in a part that should have some."""
    if any(size and not part for size, part in zip(sizes, parts, strict=True)):
        labels = describe_labels(rows) if isinstance(rows, ParallelCorpus) else ""
        raise DataError(
            f"{rows.path}: no row can be held out: nearly all {_describe_shared(rows)} others.  "
            + (labels or "Name files of your own: `data.valid=FILE`, `data.test=FILE`")
        )


def _assign_parts(rows: T, sizes: Sequence[int], seed: int) -> NDArray[np.int8]:
    """Return the part of each row, ``[rows]``, for sizes of validation and test."""
    source_texts, target_texts = rows.keys()
    columns = [
        list(map(content_key, tracked(texts, _SPLITTING, len(texts), "texts")))
        for texts in (source_texts, target_texts)
    ]
    sources, targets = map(_number_texts, columns)
    hashes = _hash_rows(columns, seed)
    groups = _find_groups(sources, targets)
    parts = _hold_out_groups(groups, hashes, sizes)
    _hold_out_rows(parts, sources, targets, hashes, sizes)
    if isinstance(rows, LabeledTexts | LabeledInputs):
        labels = np.unique(rows.labels, return_inverse=True)[1]
        by_hash = np.argsort(hashes, kind="stable")  # so that no choice depends on the file's order
        stratified = parts[by_hash]
        _stratify(stratified, groups[by_hash], labels[by_hash])
        parts[by_hash] = stratified
    return parts


def _describe_shared(rows: Rows) -> str:
    """Return what rows that leak have in common with others, the beginning of a sentence."""
    if isinstance(rows, ParallelCorpus):
        return "share a source or a target with"
    return "share a context with" if isinstance(rows, Questions) else "are the same as"


def _stratify(
    parts: NDArray[np.int8], groups: NDArray[np.int64], labels: NDArray[np.int64]
) -> None:
    """Exchange rows so that held-out parts have labels in proportion, and training has all.

    A label has at most as many rows in a held-out part as its fraction of all rows, rounded up, and
    none while it has none in training. Others are exchanged for training rows of the label that
    lacks most. Only rows that share no text with others are exchanged, so that nothing leaks.
    A part that is in proportion is left as it is. `parts`, and the numbers of groups and of labels,
    are ``[rows]``; `parts` is changed in place.
    """
    fractions = np.bincount(labels) / len(labels)
    is_alone = np.bincount(groups)[groups] == 1
    for part in (_VALID, _TEST):
        expected = fractions * (parts == part).sum()  # rows of each label, [labels]
        num_rows = np.bincount(labels[parts == part], minlength=len(fractions))
        for label in np.argsort(expected - num_rows, kind="stable").tolist():
            for row in np.flatnonzero((parts == part) & (labels == label))[::-1].tolist():
                num_rows = np.bincount(labels[parts == part], minlength=len(fractions))
                num_train = np.bincount(labels[parts == _TRAIN], minlength=len(fractions))
                if num_rows[label] <= np.ceil(expected[label]) and num_train[label]:
                    break
                lacking = expected - num_rows  # [labels]
                usable = (parts == _TRAIN) & is_alone & (labels != label) & (num_train[labels] > 1)
                if num_train[label]:
                    usable &= lacking[labels] > 0
                candidates = np.flatnonzero(usable)
                if is_alone[row] and len(candidates):
                    parts[candidates[np.argmax(lacking[labels[candidates]])]] = part
                    parts[row] = _TRAIN
                elif not num_train[label] and (groups[parts == part] != groups[row]).any():
                    parts[groups == groups[row]] = _TRAIN


def overlap(train: T, test: T) -> dict[int, int]:
    """Return the first training row with the same source, text or input, for test rows with one."""
    train_rows: dict[str, int] = {}
    train_texts = train.keys()[0]
    for row, text in enumerate(tracked(train_texts, _COMPARING, len(train_texts))):
        train_rows.setdefault(normalize(text), row)
    keys = [normalize(text) for text in test.keys()[0]]
    return {row: train_rows[key] for row, key in enumerate(keys) if key in train_rows}


def exclude_overlap(train: TextRows, test: TextRows, *, drop: bool) -> TextRows:
    """Return the test rows that share no text with the training data.

    Args:
        train: The training rows.
        test: The test rows.
        drop: Whether the others are left out; else they are an error.

    Raises:
        DataError: There are others and `drop` is false, or nothing is left.
    """
    shared = overlap(train, test)
    if not shared:
        return test
    if not drop:
        row, train_row = next(iter(shared.items()))
        verb = "stands" if len(shared) == 1 else "stand"
        raise DataError(
            f"{test.path}: {len(shared):,} of {len(test):,} {_unit(test)}s also {verb} in "
            f"{train.path} (e.g. line {test.lines[row]:,} = train {train.lines[train_row]:,}).  "
            "Scores would be too good.  Drop them: `data.drop_overlap=true`;  "
            "keep: `data.allow_overlap=true`"
        )
    remaining = test.select(row for row in range(len(test)) if row not in shared)
    if not remaining:
        raise DataError(
            f"{test.path}: every {_unit(test)} is also in {train.path}: none is left.  "
            "Name another file, or keep them: `data.allow_overlap=true`"
        )
    return remaining


def _unit(rows: ParallelCorpus | LabeledTexts | Questions) -> str:
    if isinstance(rows, Questions):
        return "question"
    return "source" if isinstance(rows, ParallelCorpus) else "text"


def normalize(text: str) -> str:
    """Return one form for texts that look the same to a reader.

    >>> normalize("Zero\u200bwidth  \uff21")
    'zerowidth a'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _characters_of(*_FORMAT).sub("", text))
    return " ".join(text.casefold().split())


def content_key(text: str) -> str:
    """Return one form for texts that differ in punctuation, quotes or invisible characters alone.

    >>> content_key("\u201eDon\u2019t!\u201c  he said") == content_key("don't, he said.")
    True
    >>> content_key("1.5") == content_key("15"), content_key("?!")
    (False, '?!')
    """
    text = normalize(text)
    if text.isascii():
        return " ".join(text.translate(_ASCII_PUNCTUATION).split()) or text
    # An acute accent typed as a quote has become a space with a combining accent.
    words = f" {text}".replace(" \u0301", " ")
    return " ".join(_characters_of(*_PUNCTUATION).sub(" ", words).split()) or text


def count_near_duplicates(rows: ParallelCorpus | LabeledTexts) -> int:
    """Return the number of rows that differ from another only in punctuation and the like."""
    sources, targets = rows.keys()
    rows_in_order = tracked(zip(sources, targets, strict=True), _COMPARED, len(sources))
    texts = {(normalize(source), normalize(target)) for source, target in rows_in_order}
    keys = {tuple(map(content_key, row)) for row in tracked(texts, _COMPARED, len(texts))}
    return len(texts) - len(keys)


@cache
def _characters_of(categories: tuple[str, ...], more: str) -> re.Pattern[str]:
    """Return a pattern of runs of characters of Unicode categories, and of `more`.

    A category may be named by its first letter, such as ``P`` for all punctuation.
    """
    codes = map(chr, range(_NUM_CODES))
    characters = [c for c in codes if unicodedata.category(c).startswith(categories)]
    return re.compile(f"[{re.escape(''.join(characters) + more)}]+")


def _number_texts(texts: Iterable[str]) -> NDArray[np.int64]:
    """Return the number of each text, ``[rows]``; equal texts have the same, the first has 0."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts])


def _hash_rows(columns: Sequence[Sequence[str]], seed: int) -> NDArray[np.uint64]:
    """Return a hash of the texts of each row, ``[rows]``, that differs from seed to seed."""
    hashes = (
        hashlib.blake2b(
            "\0".join((str(seed), *texts)).encode("utf-8", "surrogatepass"), digest_size=8
        )
        for texts in tracked(zip(*columns, strict=True), _SPLITTING, len(columns[0]))
    )
    return np.array([int.from_bytes(value.digest()) for value in hashes], dtype=np.uint64)


def _find_groups(sources: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of each row's group, ``[rows]``: rows that share a source or a target.

    Sources and targets, ``[rows]``, are the nodes of a graph, rows its edges, groups its connected
    components.
    """
    targets = targets + sources.max() + 1
    parents = list(range(int(targets.max()) + 1))

    def find(node: int) -> int:
        while parents[node] != node:
            parents[node] = node = parents[parents[node]]  # halve the path for the next search
        return node

    edges = zip(sources.tolist(), targets.tolist(), strict=True)
    for source, target in tracked(edges, _SPLITTING, len(sources)):
        parents[find(source)] = find(target)
    roots = [find(source) for source in sources.tolist()]
    return np.unique(roots, return_inverse=True)[1]


def _hold_out_groups(
    groups: NDArray[np.int64], hashes: NDArray[np.uint64], goals: Sequence[int]
) -> NDArray[np.int8]:
    """Return the part of each row, ``[rows]``: whole groups are held out, the smallest first.

    The hash decides between groups of one size. It also assigns each group to one of the two parts,
    so that a new group in one part does not move the groups of the other.

    Args:
        groups: Number of each row's group, ``[rows]``.
        hashes: Hashes of the rows, ``[rows]``.
        goals: Sizes of validation and test.
    """
    sizes = np.bincount(groups)
    lowest = np.full(len(sizes), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, groups, hashes)
    order = np.lexsort((lowest, sizes))
    part_of_group = np.full(len(sizes), _TRAIN, dtype=np.int8)
    missing = dict(zip((_VALID, _TEST), goals, strict=True))
    first_size = dict.fromkeys(missing, _MAX_FRACTION * len(groups))  # may exceed the goal
    for same_size in np.split(order, np.flatnonzero(np.diff(sizes[order])) + 1):
        size = int(sizes[same_size[0]])
        for is_own_part in (True, False):
            for group in same_size[part_of_group[same_size] == _TRAIN].tolist():
                fitting = [part for part in missing if size <= max(missing[part], first_size[part])]
                fitting = [part for part in fitting if missing[part] > 0]
                if not fitting:
                    break
                part = _VALID if lowest[group] % 2 else _TEST
                if not is_own_part:
                    part = max(fitting, key=missing.__getitem__)
                if part in fitting:
                    part_of_group[group] = part
                    missing[part] -= size
                    first_size[part] = 0
    return part_of_group[groups]


def _hold_out_rows(
    parts: NDArray[np.int8],
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    goals: Sequence[int],
) -> None:
    """Fill parts that are less than half full with single rows; drop the rows that would leak.

    Rows that share their texts with the fewest others are first.  No row in training shares a text
    with a held-out part, before or after, so only rows in training ever leak. `parts` is changed in
    place; it, the hashes, and the numbers of the sources and targets are ``[rows]``.
    """
    num_rows, num_lost = len(parts), 0
    goal_of = dict(zip((_VALID, _TEST), goals, strict=True))
    sizes = {part: int((parts == part).sum()) for part in goal_of}
    short = [part for part in sizes if 2 * sizes[part] < goal_of[part]]
    num_sharing = np.bincount(sources)[sources] + np.bincount(targets)[targets]
    for row in np.lexsort((hashes, num_sharing)):
        short = [part for part in short if sizes[part] < goal_of[part]]
        if not short:
            return
        if parts[row] != _TRAIN:
            continue
        leaking = (sources == sources[row]) | (targets == targets[row])
        leaking &= parts == _TRAIN
        part = min(short, key=sizes.__getitem__)
        num_lost += int(leaking.sum()) - 1
        max_loss = _MAX_LOSS if sizes[part] else _MAX_LOSS_FOR_ANY
        if num_lost > max_loss * num_rows or leaking.sum() == (parts == _TRAIN).sum():
            return
        parts[leaking] = _DROPPED
        parts[row] = part
        sizes[part] += 1
