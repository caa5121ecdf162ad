"""Evaluation of a language model on a file, next to baselines that need no model."""

from __future__ import annotations

import lzma
import math
from collections import Counter

import msgspec

from regard.data.readers.text import TextLines
from regard.data.text_splits import without_repeats
from regard.errors import DataError
from regard.setup.base_task import ReadOptions
from regard.tasks.language_modeling.data import read_lines_of, read_text_data
from regard.tasks.language_modeling.predictor import TextGenerator


class TextReport(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a language model on a file.

    Args:
        path: The file.
        model: Name of the model.
        num_lines: Number of its lines.
        num_chars: Number of its characters.
        loss: In nats per token.
        perplexity: Exponential of the loss.
        bits_per_byte: Bits per byte of the text under the model.
        byte_entropy: Entropy of the bytes of the file, in bits.
        compressed: Bits per byte of xz at its best setting.
        compared: Bits per byte under the other model; None without one.
    """

    path: str
    model: str
    num_lines: int
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
    """Score a language model on a text that it was not trained on.

    Args:
        generator: The model.
        lines: The text.
        name: Name of the model for the report.
        other: Another model to compare with.

    Returns:
        Loss, perplexity and bits per byte, and the bits per byte of the baselines.
    """
    measures = generator.measure(lines)
    content = ("\n".join(lines.texts) + "\n").encode()
    return TextReport(
        path=lines.path,
        model=name,
        num_lines=len(lines.texts),
        num_chars=lines.num_chars,
        loss=measures["loss"],
        perplexity=measures["perplexity"],
        bits_per_byte=measures["bits_per_byte"],
        byte_entropy=byte_entropy(content),
        compressed=8 * len(lzma.compress(content, preset=9)) / len(content),
        compared=None if other is None else other.measure(lines)["bits_per_byte"],
    )


def byte_entropy(content: bytes) -> float:
    """Return the entropy of single bytes of a text, in bits.

    >>> byte_entropy(b"abcd"), byte_entropy(b"aaaa")
    (2.0, 0.0)
    """
    fractions = [count / len(content) for count in Counter(content).values()]
    return sum(fraction * math.log2(1 / fraction) for fraction in fractions)


def read_test_text(
    path: str, generator: TextGenerator, *, drop_overlap: bool = False, allow_overlap: bool = False
) -> TextLines:
    """Return a test text, read with the settings of the model's training text.

    Args:
        path: The file.
        generator: The model to be tested.
        drop_overlap: Leave out long lines that are also in the training text.
        allow_overlap: Keep such lines.

    Raises:
        DataError: Neither is set and there are such lines, or the file cannot be read.
    """
    lines = read_lines_of(path, generator.config.data)
    if allow_overlap:
        return lines
    try:
        train = read_text_data(ReadOptions.from_config(generator.config)).train
    except DataError:  # the training text is not available, so nothing can be compared
        return lines
    new_lines, repeats = without_repeats(train, lines)
    if repeats and not drop_overlap:
        raise DataError(
            f"{path}: {len(repeats):,} of {len(lines):,} lines are also in {train.path} "
            f"(e.g. line {repeats[0].line:,}).  Scores would be too good.  "
            "Drop them: `data.drop_overlap=true`;  keep: `data.allow_overlap=true`"
        )
    if not len(new_lines):
        raise DataError(
            f"{path}: every line is also in {train.path}: none is left.  "
            "Name another file, or keep them: `data.allow_overlap=true`"
        )
    return new_lines
