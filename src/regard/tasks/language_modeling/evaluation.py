"""Evaluation of a language model on a file, next to baselines that need no model."""

from __future__ import annotations

import lzma
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.listing import shorten_line
from regard.data.readers.running_text import TextLines
from regard.data.readers.source import DataSource
from regard.data.text_splits import without_repeats
from regard.errors import DataError
from regard.metrics.words import split_words
from regard.plots.score_by_length import ScoreByLengthPicture
from regard.setup.evaluation_details import (
    CalibrationChart,
    EvaluationDetails,
    ExplainedInput,
    ScoredRow,
    chart_by_length,
    chart_by_rarity,
)
from regard.setup.evaluation_report import (
    EvaluationOptions,
    EvaluationReport,
    score_interval,
)
from regard.setup.held_out import training_data
from regard.tasks.language_modeling.data import read_lines_of, read_text_data
from regard.tasks.language_modeling.predictor import LinePredictions, TextGenerator

_LONGEST_TEXT = 60  # characters of a line that are printed
_SHORT_LINE = 16  # bytes


class WorstLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that the model predicts worst.

    Args:
        line: 1-based line in the file.
        text: The line.
        loss: Loss in nats per token.
        bits_per_byte: Bits per byte under the model.
    """

    line: int
    text: str
    loss: float
    bits_per_byte: float


class TextReport(EvaluationReport, frozen=True, kw_only=True):
    """The scores of a language model on a file.

    Args:
        num_lines: Number of its lines.
        num_chars: Number of its characters.
        loss: Loss in nats per token.
        perplexity: Exponential of the loss.
        bits_per_byte: Bits per byte of the text under the model.
        byte_entropy: Entropy of the bytes of the file, in bits.
        compressed: Bits per byte of xz at its best setting.
        worst: The lines with the most bits per byte, the worst first. Short ones, of few tokens,
            are left out where there are others.
        compared: Bits per byte under the other model; None without one.
    """

    num_lines: int
    num_chars: int
    loss: float
    perplexity: float
    bits_per_byte: float
    byte_entropy: float
    compressed: float
    worst: list[WorstLine]
    compared: float | None = None

    @property
    def num_rows(self) -> int:
        """Number of lines."""
        return self.num_lines

    @property
    def intervals(self) -> dict[str, Any]:
        """Perplexity and bits per byte, without intervals."""
        scores = {"perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte}
        return {name: score_interval(value) for name, value in scores.items()}

    @property
    def floors(self) -> dict[str, float | None]:
        """Bits per byte without a model."""
        return {"byte_entropy": self.byte_entropy, "compressed": self.compressed}

    @property
    def verdict(self) -> str:
        """Whether the model needs fewer bits than xz."""
        is_better = self.bits_per_byte < self.compressed
        return "better than xz" if is_better else "not better than xz"

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the worst lines, scores, floors and the comparison."""
        yield "Data", f"{self.path}   {self.num_chars:,} characters   model {self.model}"
        for entry in self.worst:
            figures = f"{entry.bits_per_byte:.3f} bits/byte   {entry.loss:.3f} nats/token"
            text = shorten_line(entry.text, _LONGEST_TEXT)
            yield "Worst", f"line {entry.line:,}   {figures}   {text}"
        yield (
            "Loss",
            f"{self.loss:.3f} nats/token   perplexity {self.perplexity:.2f}   "
            f"{self.bits_per_byte:.3f} bits/byte",
        )
        floors = (
            f"{self.floor_title(name)} {bits:.3f} bits/byte" for name, bits in self.floors.items()
        )
        yield "Floors", "   ".join(floors)
        yield "Verdict", self.verdict
        if self.compared is not None:
            difference = self.bits_per_byte - self.compared
            yield "Compare", f"{self.model} against {self.other}: {difference:+.3f} bits/byte"


def evaluate_text(
    generator: TextGenerator,
    data: DataSource,
    options: EvaluationOptions,
    other: TextGenerator | None = None,
) -> TextReport:
    """Return the scores of a language model on a text that it was not trained on, and baselines.

    Args:
        generator: The model.
        data: The text.
        options: How it is evaluated.
        other: Another model to compare with.

    Raises:
        DataError: The file cannot be read, or has long lines of the training text and `options` do
            not say what becomes of them.
    """
    lines = read_lines_of(data, generator.config.data)
    trained = training_data(read_text_data, generator.config)
    train = None if trained is None else trained.train
    lines = _unseen_lines(train, lines, options)
    measures = generator.measure(lines)
    worst, details = [], None
    if options.num_worst or options.has_details:
        predictions = generator.predict_lines(lines)
        worst = _find_worst(predictions, lines, options.num_worst)
        if options.has_details:
            details = _details(generator, lines, predictions, train, worst)
    content = ("\n".join(lines.texts) + "\n").encode()
    return TextReport(
        **options.report_fields(),
        path=lines.path,
        num_lines=len(lines.texts),
        num_chars=lines.num_chars,
        loss=measures["loss"],
        perplexity=measures["perplexity"],
        bits_per_byte=measures["bits_per_byte"],
        byte_entropy=byte_entropy(content),
        compressed=8 * len(lzma.compress(content, preset=9)) / len(content),
        worst=worst,
        compared=None if other is None else other.measure(lines)["bits_per_byte"],
        details=details,
    )


def _details(
    generator: TextGenerator,
    lines: TextLines,
    predictions: LinePredictions,
    train: TextLines | None,
    worst: list[WorstLine],
) -> EvaluationDetails:
    """Return what a page shows beyond the scores."""
    rows = [row for row, text in enumerate(lines.texts) if text.strip()]
    texts = [lines.texts[row] for row in rows]
    bits = _bits_per_byte(predictions, lines)[rows].tolist()
    names = ["bits per byte"]
    by_length = ScoreByLengthPicture.from_rows(
        [len(split_words(text)) for text in texts],
        [bits],
        unit="words of the line",
        row="line",
        names=names,
    )
    by_rarity = chart_by_rarity(
        texts,
        [bits],
        training_texts=None if train is None else train.texts,
        count_tokens=lambda texts: list(map(len, map(generator.tokenizer.encode_text, texts))),
        row="line",
        names=names,
    )
    calibration = CalibrationChart(
        title="Calibration of tokens",
        note="The most probable next token after each part of the text, and how often it follows.",
        unit="token",
        bins=predictions.reliability,
    )
    return EvaluationDetails(
        charts=[chart_by_length(by_length), by_rarity] if rows else [],
        calibrations=[calibration],
        worst=[
            ScoredRow(
                where=f"line {entry.line:,}",
                score=f"{entry.bits_per_byte:.3f} bits per byte",
                texts={"text": entry.text},
                explained=_second_half(entry.text),
            )
            for entry in worst
        ],
    )


def _second_half(text: str) -> ExplainedInput | None:
    """Return the second half of a line as the continuation of the first one."""
    words = text.split(" ")
    middle = len(words) // 2
    if middle < 1:
        return None
    first, second = " ".join(words[:middle]), " " + " ".join(words[middle:])
    return ExplainedInput(text=first, output=second) if first.strip() and second.strip() else None


def _num_bytes(lines: TextLines) -> NDArray[np.int64]:
    """Return the bytes of each line with its end, ``[lines]``."""
    return np.array([len(text.encode()) + 1 for text in lines.texts])


def _bits_per_byte(predictions: LinePredictions, lines: TextLines) -> NDArray[np.float64]:
    """Return the bits per byte of each line, ``[lines]``."""
    return predictions.losses / math.log(2) / _num_bytes(lines)


def _find_worst(predictions: LinePredictions, lines: TextLines, count: int) -> list[WorstLine]:
    """Return the lines that a model predicts worst."""
    losses, num_tokens, _ = predictions
    bits = _bits_per_byte(predictions, lines)
    is_text = np.array([bool(text.strip()) for text in lines.texts])
    is_long = is_text & (_num_bytes(lines) >= _SHORT_LINE)
    (rows,) = np.nonzero(is_long if is_long.any() else is_text)
    return [
        WorstLine(
            line=lines.numbers[row],
            text=lines.texts[row],
            loss=float(losses[row] / max(1, num_tokens[row])),
            bits_per_byte=float(bits[row]),
        )
        for row in rows[np.argsort(-bits[rows], kind="stable")][:count].tolist()
    ]


def byte_entropy(content: bytes) -> float:
    """Return the entropy of single bytes of a text, in bits.

    >>> byte_entropy(b"abcd"), byte_entropy(b"aaaa")
    (2.0, 0.0)
    """
    fractions = [count / len(content) for count in Counter(content).values()]
    return sum(fraction * math.log2(1 / fraction) for fraction in fractions)


def _unseen_lines(
    train: TextLines | None, lines: TextLines, options: EvaluationOptions
) -> TextLines:
    """Return the lines of a test text without long ones of the training text, or with them.

    Raises:
        DataError: There are such lines and `options` do not say what becomes of them, or no line is
            left.
    """
    if train is None or options.allow_overlap:
        return lines
    new_lines, repeats = without_repeats(train, lines)
    if repeats and not options.drop_overlap:
        raise DataError(
            f"{lines.path}: {len(repeats):,} of {len(lines):,} lines are also in {train.path} "
            f"(e.g. line {repeats[0].line:,}).  Scores would be too good.  "
            "Drop them: `data.drop_overlap=true`;  keep: `data.allow_overlap=true`"
        )
    if not len(new_lines):
        raise DataError(
            f"{lines.path}: every line is also in {train.path}: none is left.  "
            "Name another file, or keep them: `data.allow_overlap=true`"
        )
    return new_lines
