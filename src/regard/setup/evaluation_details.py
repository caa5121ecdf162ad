"""What a page about an evaluation shows beyond its scores: figures row by row, summed up."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

import msgspec

from regard.metrics.classification import Reliability
from regard.metrics.rare_words import RARE, rare_word_percent, tokens_per_hundred_words
from regard.plots.confusion_matrix import ClassificationPicture
from regard.plots.forecast_panels import ForecastPanel
from regard.plots.score_by_length import ScoreByLengthPicture


class ExplainedInput(msgspec.Struct, frozen=True, kw_only=True):
    """The input of a prediction that can be explained.

    Args:
        text: The input, or the path of its file.
        context: The text that a question is asked of; None where the task has none.
        output: The output that is explained; None is the model's own.
        is_file: Whether the input is the file that `text` names.
        languages: Codes of source and target, of a translator of many languages.
    """

    text: str
    context: str | None = None
    output: str | None = None
    is_file: bool = False
    languages: tuple[str | None, str] | None = None


class ScoredRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of the worst rows.

    Args:
        where: It is in the data, such as ``line 12``.
        score: Its score in words, such as ``chrF 12.3``.
        texts: What it is made of, by role: source, output, reference.
        explained: How to explain its prediction; None where that takes more than the row.
    """

    where: str
    score: str
    texts: dict[str, str]
    explained: ExplainedInput | None = None


class ScoreChart(msgspec.Struct, frozen=True, kw_only=True):
    """Mean scores of rows by one of their properties.

    Args:
        title: Such as ``By length``.
        note: What the property is, in a sentence.
        picture: The means.
    """

    title: str
    note: str
    picture: ScoreByLengthPicture


class CalibrationChart(msgspec.Struct, frozen=True, kw_only=True):
    """How often predictions are correct, by the probability that the model gives them.

    Args:
        title: Such as ``Calibration of tokens``.
        note: What was compared, in a sentence.
        unit: What is counted, such as ``token``.
        bins: The comparison.
        has_levels: Whether the "bins" are quantiles: the probability is a level, and what is
            correct are the values below its quantile, all of them counted for every level.
    """

    title: str
    note: str
    unit: str
    bins: Reliability
    has_levels: bool = False


class EvaluationDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What a page shows beyond the scores of a report.

    Args:
        charts: Scores by length, by rare words and by confidence, where there are such.
        calibrations: Calibrations of the model's probabilities, where they can be compared with the
            truth.
        confusion: Confusion of a classifier.
        worst: Rows, worst first.
        forecasts: The worst windows of a forecaster, worst first.
        notes: What is left out, and why.
    """

    charts: list[ScoreChart] = []
    calibrations: list[CalibrationChart] = []
    confusion: ClassificationPicture | None = None
    worst: list[ScoredRow] = []
    forecasts: list[ForecastPanel] = []
    notes: list[str] = []


def worst_rows(scores: Sequence[float], count: int) -> list[int]:
    """Return the rows with the lowest scores, worst first; equal scores in the order of rows.

    Args:
        scores: Score of each row.
        count: Rows to return at most.

    >>> worst_rows([30.0, 10.0, 20.0, 10.0], 3)
    [1, 3, 2]
    """
    return heapq.nsmallest(count, range(len(scores)), key=scores.__getitem__)


def chart_by_length(picture: ScoreByLengthPicture) -> ScoreChart:
    """Return the scores by length of the picture of a report."""
    note = f"Rows in order of their length in {picture.unit}, about as many in every group."
    return ScoreChart(title="By length", note=note, picture=picture)


def chart_by_rarity(
    texts: Sequence[str],
    scores: Sequence[Sequence[float]],
    *,
    training_texts: Iterable[str] | None,
    count_tokens: Callable[[Sequence[str]], Sequence[int]],
    row: str,
    names: Sequence[str],
) -> ScoreChart:
    """Return scores by the rare words of what the model read.

    Args:
        texts: That the model read.
        scores: Scores of each row, 0 to 100, ``[scores, rows]``.
        training_texts: Texts of the same kind; None where they are not at hand.
        count_tokens: Returns the number of tokens of each text.
        row: What a row is, such as ``sentence``.
        names: Names of the scores.
    """
    if training_texts is not None:
        values = rare_word_percent(texts, training_texts)
        note = f"A word is rare where the training data has it fewer than {RARE} times."
        unit = "% of the words are rare"
    else:
        values = tokens_per_hundred_words(texts, count_tokens(texts))
        note = (
            "The training data is not at hand: rare words are estimated by tokens per word, since "
            "the vocabulary splits what is rare."
        )
        unit = "tokens of 100 words"
    picture = ScoreByLengthPicture.from_rows(values, scores, unit=unit, row=row, names=names)
    return ScoreChart(title="By rare words", note=note, picture=picture)


def chart_by_confidence(
    confidences: Sequence[float],
    scores: Sequence[Sequence[float]],
    *,
    row: str,
    names: Sequence[str],
) -> ScoreChart:
    """Return scores by the confidence of whole outputs.

    Args:
        confidences: Geometric mean of the token probabilities of each output, 0 to 1.
        scores: Scores of each row, 0 to 100, ``[scores, rows]``.
        row: What a row is.
        names: Names of the scores.
    """
    percents = [round(100 * confidence) for confidence in confidences]
    picture = ScoreByLengthPicture.from_rows(
        percents, scores, unit="% confidence of the output", row=row, names=names
    )
    note = (
        "The confidence of an output is the geometric mean of the probabilities of its tokens.  "
        "Where the score rises with it, it says which outputs to check."
    )
    return ScoreChart(title="By confidence", note=note, picture=picture)
