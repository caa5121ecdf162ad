"""Split of running text into training, validation and test, without leakage.

The parts for validation and test are runs of consecutive lines, so that sentences next to each
other are not in different parts; long lines that are in training too are left out of them. A line
that is a large part of the text, such as a book without line ends, is cut between words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import pluralize
from regard.data.progress import tracked
from regard.data.readers.running_text import TextLines
from regard.data.splits import Splits, normalize
from regard.errors import DataError

_NUM_RUNS = 40  # runs of lines of about the same size, of which validation and test have one each
_MAX_RUN_CHARS = 500_000  # enough for three digits of a perplexity
_MIN_LINE_CHARS = 40  # a shorter line may occur twice by chance
_MAX_LINE_FRACTION = 0.1  # of the text; a longer line is cut
_MIN_CUT_CHARS = 1000  # of a line that is cut
_MAX_PIECE_CHARS = 1000  # in which a space to cut at is looked for


def split_text(
    lines: TextLines,
    *,
    seed: int,
    with_valid: bool = True,
    with_test: bool = True,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
    cuts_lines: bool = True,
) -> Splits[TextLines]:
    """Return a text with runs of consecutive lines held out for validation, test, or both.

    Args:
        lines: The text.
        seed: Seed of the choice.
        with_valid: Whether to hold out a part for validation.
        with_test: Whether to hold out a part for the test.
        valid_fraction: Fraction of the text to validate on, 0 to 1; None is one run of about 1/40
            of it, at most half a million characters.
        test_fraction: Fraction to test on; None is the same.
        cuts_lines: Whether huge lines are cut; earlier versions did not.

    Raises:
        DataError: There are too few lines.
    """
    line_of_piece = list(range(len(lines)))
    if cuts_lines:
        lines, line_of_piece = _cut_huge_lines(lines)
    held_out = {
        part: fraction
        for part, is_held_out, fraction in (
            (1, with_valid, valid_fraction),
            (2, with_test, test_fraction),
        )
        if is_held_out
    }
    if len(lines) <= len(held_out):
        raise DataError(
            f"{lines.path}: {pluralize(len(lines), 'line')}, too few to hold out some.  "
            "Break the text into lines, or name files of your own: "
            "`data.valid=FILE`, `data.test=FILE`"
        )
    part_of_line = _draw_parts(lines, held_out, seed)
    train, valid, test = (
        _select_joined(lines, np.flatnonzero(part_of_line == part).tolist(), line_of_piece)
        for part in range(3)
    )
    valid, repeated_valid = without_repeats(train, valid)
    test, repeated_test = without_repeats(train, test)
    return Splits(train=train, valid=valid, test=test, dropped=[*repeated_valid, *repeated_test])


def _draw_parts(
    lines: TextLines, held_out: Mapping[int, float | None], seed: int
) -> NDArray[np.int8]:
    """Return the part of each line, ``[lines]``: runs of lines are drawn for parts held out.

    Args:
        lines: The text.
        held_out: Fraction of the text for each part; None is one run. The rest is part 0.
        seed: Seed of the choice.

    Raises:
        DataError: No line is left to train on.
    """
    part_of_line = np.zeros(len(lines), dtype=np.int8)
    runs = _runs(lines)
    # Positions in the text, whatever the number of runs: a line more hardly moves the parts.
    shuffled = np.random.default_rng(seed).permutation(_NUM_RUNS) * len(runs) // _NUM_RUNS
    order = list(dict.fromkeys([*shuffled.tolist(), *range(len(runs))]))
    for part, fraction in held_out.items():
        num_runs = 1 if fraction is None else max(1, round(fraction * len(runs)))
        for run in order[:num_runs]:
            part_of_line[runs[run]] = part
        order = order[num_runs:]
    if not order:
        raise DataError(
            f"{lines.path}: nothing is left to train on.  Hold out less: `data.valid=5%`, "
            "`data.test=5%`"
        )
    return part_of_line


def _runs(lines: TextLines) -> list[slice]:
    """Return runs of consecutive lines with about the same number of characters."""
    ends = np.cumsum([len(text) + 1 for text in lines.texts])
    size = min(_MAX_RUN_CHARS, int(ends[-1]) // _NUM_RUNS + 1)
    num_runs = max(1, int(ends[-1]) // size)
    cuts = np.searchsorted(ends, np.linspace(0, ends[-1], num_runs + 1)[1:-1], side="right")
    borders = [0, *np.unique(cuts[(cuts > 0) & (cuts < len(lines))]).tolist(), len(lines)]
    if len(borders) < 4:
        borders = np.linspace(0, len(lines), min(len(lines), 3) + 1).astype(int).tolist()
    return [slice(start, end) for start, end in pairwise(borders)]


def _cut_huge_lines(lines: TextLines) -> tuple[TextLines, list[int]]:
    """Return a text with its huge lines in pieces, and the index of the line of each piece."""
    size = lines.num_chars // _NUM_RUNS
    longest = max(_MIN_CUT_CHARS, _MAX_LINE_FRACTION * lines.num_chars)
    if max(map(len, lines.texts), default=0) <= longest:
        return lines, list(range(len(lines)))
    pieces = [_cut(text, size) if len(text) > longest else [text] for text in lines.texts]
    num_pieces = list(map(len, pieces))
    line_of_piece = np.repeat(np.arange(len(lines)), num_pieces).tolist()
    ends_document = np.zeros(len(line_of_piece), bool)
    ends_document[np.cumsum(num_pieces) - 1] = lines.ends_document  # the last piece of a line
    cut = TextLines(
        path=lines.path,
        texts=list(chain.from_iterable(pieces)),
        numbers=[lines.numbers[line] for line in line_of_piece],
        ends_document=ends_document.tolist(),
    )
    return cut, line_of_piece


def _select_joined(
    lines: TextLines, indices: Sequence[int], line_of_piece: Sequence[int]
) -> TextLines:
    """Return some lines, in which neighbouring pieces of one line are joined again."""
    selected = lines.select(indices)
    if line_of_piece[-1] == len(line_of_piece) - 1:  # nothing is cut
        return selected
    whole_lines = TextLines(path=lines.path, texts=[], numbers=[], ends_document=[])
    for row, index in enumerate(indices):
        follows = row > 0 and indices[row - 1] == index - 1
        if follows and line_of_piece[index - 1] == line_of_piece[index]:
            whole_lines.texts[-1] += selected.texts[row]
            whole_lines.ends_document[-1] = selected.ends_document[row]
        else:
            whole_lines.texts.append(selected.texts[row])
            whole_lines.numbers.append(selected.numbers[row])
            whole_lines.ends_document.append(selected.ends_document[row])
    return whole_lines


def _cut(text: str, size: int) -> list[str]:
    """Return pieces of a text of about `size` characters, cut behind a space where one is near.

    >>> _cut("a cat and a dog", 7), _cut("abcdefghi", 4)
    (['a cat ', 'and a ', 'dog'], ['abcd', 'efgh', 'i'])
    """
    pieces, start = [], 0
    while start < len(text):
        end = start + max(1, size)
        space = text.rfind(" ", max(start, end - _MAX_PIECE_CHARS), end)
        if end < len(text) and space >= 0:
            end = space + 1
        pieces.append(text[start:end])
        start = end
    return pieces


def without_repeats(train: TextLines, held_out: TextLines) -> tuple[TextLines, list[DroppedRow]]:
    """Return a held-out part without the long lines that are in training too, and these lines."""
    long_texts = (text for text in train.texts if len(text) >= _MIN_LINE_CHARS)
    train_texts = set(map(normalize, tracked(long_texts, "comparing the lines", len(train))))
    remaining, dropped = [], []
    for row, text in enumerate(held_out.texts):
        if len(text) >= _MIN_LINE_CHARS and normalize(text) in train_texts:
            line, reason = held_out.numbers[row], "repeats across splits"
            dropped.append(DroppedRow(line=line, reason=reason, text=text))
        else:
            remaining.append(row)
    return held_out.select(remaining), dropped
