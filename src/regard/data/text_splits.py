"""Running text in parts for training, validation and test, without leakage.

Parts for validation and test are runs of consecutive lines, so that a book is not tested on
sentences whose neighbors it was trained on; long lines that training has too are left out of them.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np

from regard.data.dropped_rows import DroppedRow
from regard.data.readers.text import TextLines
from regard.data.splits import normalize
from regard.errors import DataError

_NUM_RUNS = 40  # of lines, of about as many characters each; one is validated on, one tested on
_LONGEST_HELD_OUT = 500_000  # characters: enough for three digits of a perplexity
_TELLING = 40  # characters; a shorter line may well stand twice by chance


class TextSplits(msgspec.Struct, frozen=True, kw_only=True):
    """Running text in three parts; no long line of a held-out part stands in training.

    Args:
        train: To learn from.
        valid: To choose the best weights by.
        test: For the final figures.
        dropped: Lines left out of the held-out parts.
    """

    train: TextLines
    valid: TextLines
    test: TextLines
    dropped: list[DroppedRow]


def split_text(lines: TextLines, *, seed: int, with_valid: bool, with_test: bool) -> TextSplits:
    """Hold out runs of consecutive lines for validation and test.

    Args:
        lines: The text.
        seed: Of the choice.
        with_valid: Whether to hold out lines for validation.
        with_test: Whether to hold out lines for the test.

    Raises:
        DataError: There are fewer than three lines.
    """
    wanted = [part for part, is_wanted in ((1, with_valid), (2, with_test)) if is_wanted]
    if len(lines) <= len(wanted):
        raise DataError(
            f"{lines.path}: {len(lines):,} line{'' if len(lines) == 1 else 's'}, too few to hold "
            "out some.  Break the text into lines, or name files of your own: "
            "`data.valid=FILE`, `data.test=FILE`"
        )
    part_of_line = np.zeros(len(lines), dtype=np.int8)
    runs = _runs(lines)
    chosen = np.random.default_rng(seed).permutation(len(runs))
    for part, run in zip(wanted, chosen, strict=False):
        part_of_line[runs[run]] = part
    train, valid, test = (
        lines.select(np.flatnonzero(part_of_line == part).tolist()) for part in range(3)
    )
    valid, repeated_valid = without_repeats(train, valid)
    test, repeated_test = without_repeats(train, test)
    return TextSplits(
        train=train, valid=valid, test=test, dropped=[*repeated_valid, *repeated_test]
    )


def _runs(lines: TextLines) -> list[slice]:
    """Cut the lines into runs of about the same number of characters."""
    ends = np.cumsum([len(text) + 1 for text in lines.texts])
    size = min(_LONGEST_HELD_OUT, int(ends[-1]) // _NUM_RUNS + 1)
    num_runs = max(1, int(ends[-1]) // size)
    cuts = np.searchsorted(ends, np.linspace(0, ends[-1], num_runs + 1)[1:-1], side="right")
    borders = [0, *np.unique(cuts[(cuts > 0) & (cuts < len(lines))]).tolist(), len(lines)]
    if len(borders) < 4:
        borders = np.linspace(0, len(lines), min(len(lines), 3) + 1).astype(int).tolist()
    return [slice(start, end) for start, end in pairwise(borders)]


def without_repeats(train: TextLines, held_out: TextLines) -> tuple[TextLines, list[DroppedRow]]:
    """Leave out of a held-out part the long lines that stand in training too."""
    known = {normalize(text) for text in train.texts if len(text) >= _TELLING}
    repeats = [len(text) >= _TELLING and normalize(text) in known for text in held_out.texts]
    dropped = [
        DroppedRow(line=number, reason="repeats across splits", text=text)
        for number, text, repeated in zip(held_out.numbers, held_out.texts, repeats, strict=True)
        if repeated
    ]
    kept = held_out.select(row for row, repeated in enumerate(repeats) if not repeated)
    return kept, dropped
