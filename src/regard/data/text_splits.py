"""Split of running text into training, validation and test, without leakage.

The parts for validation and test are runs of consecutive lines, so that sentences next to each
other are not in different parts; long lines that are in training too are left out of them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from regard.data.dropped_rows import DroppedRow
from regard.data.readers.text import TextLines
from regard.data.splits import Splits, normalize
from regard.errors import DataError

_NUM_RUNS = 40  # runs of lines of about the same size, of which validation and test have one each
_MAX_RUN_CHARS = 500_000  # enough for three digits of a perplexity
_MIN_LINE_CHARS = 40  # a shorter line may occur twice by chance


def split_text(
    lines: TextLines, *, seed: int, with_valid: bool, with_test: bool
) -> Splits[TextLines]:
    """Return a text with runs of consecutive lines held out for validation, test, or both.

    Raises:
        DataError: There are too few lines.
    """
    held_out = [part for part, is_held_out in ((1, with_valid), (2, with_test)) if is_held_out]
    if len(lines) <= len(held_out):
        raise DataError(
            f"{lines.path}: {len(lines):,} line{'' if len(lines) == 1 else 's'}, too few to hold "
            "out some.  Break the text into lines, or name files of your own: "
            "`data.valid=FILE`, `data.test=FILE`"
        )
    part_of_line = np.zeros(len(lines), dtype=np.int8)
    runs = _runs(lines)
    # Positions in the text, whatever the number of runs: a line more hardly moves the parts.
    shuffled = np.random.default_rng(seed).permutation(_NUM_RUNS) * len(runs) // _NUM_RUNS
    for part, run in zip(held_out, dict.fromkeys(shuffled.tolist()), strict=False):
        part_of_line[runs[run]] = part
    train, valid, test = (
        lines.select(np.flatnonzero(part_of_line == part).tolist()) for part in range(3)
    )
    valid, repeated_valid = without_repeats(train, valid)
    test, repeated_test = without_repeats(train, test)
    return Splits(train=train, valid=valid, test=test, dropped=[*repeated_valid, *repeated_test])


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


def without_repeats(train: TextLines, held_out: TextLines) -> tuple[TextLines, list[DroppedRow]]:
    """Return a held-out part without the long lines that are in training too, and these lines."""
    train_texts = {normalize(text) for text in train.texts if len(text) >= _MIN_LINE_CHARS}
    remaining, dropped = [], []
    for row, text in enumerate(held_out.texts):
        if len(text) >= _MIN_LINE_CHARS and normalize(text) in train_texts:
            line, reason = held_out.numbers[row], "repeats across splits"
            dropped.append(DroppedRow(line=line, reason=reason, text=text))
        else:
            remaining.append(row)
    return held_out.select(remaining), dropped
