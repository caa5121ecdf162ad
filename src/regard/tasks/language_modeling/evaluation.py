"""How well a language model predicts a file, beside floors that need no model."""

from __future__ import annotations

import lzma
import math
from collections import Counter

import msgspec

from regard.data.readers.text import TextLines, read_text
from regard.data.text_splits import without_repeats
from regard.errors import DataError
from regard.setup.base_task import ReadOptions
from regard.tasks.language_modeling.data import read_prose
from regard.tasks.language_modeling.predictor import TextGenerator


class TextReport(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a language model on a file.

    Args:
        path: The file.
        model: The model's name.
        num_chars: Characters of the file.
        loss: In nats a token.
        perplexity: Exponential of the loss.
        bits_per_byte: Bits that the model needs for a byte of the text.
        byte_entropy: Bits that the frequencies of the file's own bytes need for one.
        compressed: Bits a byte that xz needs, at its best setting.
        compared: Bits a byte that the other model needs; None without one.
    """

    path: str
    model: str
    num_chars: int
    loss: float
    perplexity: float
    bits_per_byte: float
    byte_entropy: float
    compressed: float
    compared: float | None = None


def evaluate_text(
    generator: TextGenerator, lines: TextLines, *, name: str, other: TextGenerator | None = None
) -> TextReport:
    """Score a language model.

    Args:
        generator: The model.
        lines: The text, none of which the model was trained on.
        name: Of the model, for the report.
        other: Another model to compare with.
    """
    found = generator.measure(lines)
    content = ("\n".join(lines.texts) + "\n").encode()
    return TextReport(
        path=lines.path,
        model=name,
        num_chars=lines.num_chars,
        loss=found["loss"],
        perplexity=found["perplexity"],
        bits_per_byte=found["bits_per_byte"],
        byte_entropy=byte_entropy(content),
        compressed=8 * len(lzma.compress(content, preset=9)) / len(content),
        compared=None if other is None else other.measure(lines)["bits_per_byte"],
    )


def byte_entropy(content: bytes) -> float:
    """Compute the entropy of the bytes of a text taken singly, in bits.

    >>> byte_entropy(b"abcd"), byte_entropy(b"aaaa")
    (2.0, 0.0)
    """
    shares = [count / len(content) for count in Counter(content).values()]
    return sum(share * math.log2(1 / share) for share in shares)


def read_test_text(
    path: str, generator: TextGenerator, *, drop_overlap: bool = False, allow_overlap: bool = False
) -> TextLines:
    """Read a text as the model's training text was read.

    Args:
        path: The file.
        generator: The model it is to test.
        drop_overlap: Leave out long lines that stand in the training text.
        allow_overlap: Keep such lines.

    Raises:
        DataError: Neither is set and there are such lines, or the file cannot be read.
    """
    data = generator.config.data
    column = data.columns[0] if data.columns else "text"
    lines = read_text(path, encoding=data.encoding, column=column)
    if allow_overlap:
        return lines
    try:
        train = read_prose(ReadOptions.from_config(generator.config)).train
    except DataError:  # the training text is not at hand: nothing to compare with
        return lines
    kept, repeats = without_repeats(train, lines)
    if repeats and not drop_overlap:
        raise DataError(
            f"{path}: {len(repeats):,} of {len(lines):,} lines also stand in {train.path} "
            f"(e.g. line {repeats[0].line:,}).  Scores would be too good.  "
            "Drop them: `data.drop_overlap=true`;  keep: `data.allow_overlap=true`"
        )
    if not len(kept):
        raise DataError(
            f"{path}: every line also stands in {train.path}: none is left.  "
            "Name another file, or keep them: `data.allow_overlap=true`"
        )
    return kept
