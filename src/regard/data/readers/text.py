"""Running text for language models: a text file is one document, a row of JSONL or CSV another.

Text is kept by the line, since lines are what messages name and what parts are cut from.  Parts
for validation and test are runs of consecutive lines, so that a book is not tested on sentences
whose neighbours it was trained on; long lines that training has too are left out of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from regard.data.readers.tables import read_lines, read_records
from regard.data.splits import DroppedRow, normalize
from regard.errors import DataError

_NUM_RUNS = 40  # of lines, of about as many characters each; one is validated on, one tested on
_LONGEST_HELD_OUT = 500_000  # characters: enough for three digits of a perplexity
_TELLING = 40  # characters; a shorter line may well stand twice by chance


class TextLines(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of running text.

    Args:
        path: File as named.
        texts: One line each, without its end.
        numbers: Where each stands: its 1-based line in the file.
        ends_document: Whether a document ends after each.
    """

    path: str
    texts: list[str]
    numbers: list[int]
    ends_document: list[bool]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def num_chars(self) -> int:
        """Characters, with one for the end of each line."""
        return sum(map(len, self.texts)) + len(self.texts)

    @property
    def num_bytes(self) -> int:
        """Bytes in UTF-8, with one for the end of each line."""
        return sum(len(text.encode()) for text in self.texts) + len(self.texts)

    def select(self, rows: Iterable[int]) -> TextLines:
        """Return the lines at the given 0-based indices, in the order given."""
        rows = list(rows)
        return TextLines(
            path=self.path,
            texts=[self.texts[row] for row in rows],
            numbers=[self.numbers[row] for row in rows],
            ends_document=[self.ends_document[row] for row in rows],
        )


def read_text(path: str | Path, *, encoding: str = "utf-8", column: str = "text") -> TextLines:
    """Read running text.

    Args:
        path: A text file, or JSONL or CSV with one document a row; ``-`` for standard input, which
            is JSONL where it begins with ``{``.
        encoding: Of the file.
        column: Of the text in CSV and JSONL.

    Raises:
        DataError: The file is missing, holds no text, or has a row that cannot be read.
    """
    if Path(path).suffix.lower() in (".jsonl", ".json", ".csv"):
        found = _from_documents(str(path), read_records(path, (column,), encoding=encoding))
    else:
        texts = list(read_lines(path, encoding=encoding))
        while texts and not texts[-1].strip():
            texts.pop()
        found = TextLines(
            path=str(path),
            texts=texts,
            numbers=list(range(1, len(texts) + 1)),
            ends_document=[False] * max(0, len(texts) - 1) + [True] * bool(texts),
        )
    if not any(text.strip() for text in found.texts):
        raise DataError(f"{path}: the file is empty.  Expected running text.")
    return found


def _from_documents(path: str, records: Iterator[tuple[int, list[str]]]) -> TextLines:
    found = TextLines(path=path, texts=[], numbers=[], ends_document=[])
    for number, (text,) in records:
        texts = text.strip().split("\n")
        found.texts.extend(texts)
        found.numbers.extend([number] * len(texts))
        found.ends_document.extend([False] * (len(texts) - 1) + [True])
    return found


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
            "out some.  Break the text into lines, or name files of your own: --valid FILE, "
            "--test FILE"
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
