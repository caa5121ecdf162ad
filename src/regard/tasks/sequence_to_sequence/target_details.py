"""What the page of an evaluation shows of written targets beyond the scores."""

from __future__ import annotations

from collections.abc import Sequence

from regard.data.parallel_corpus import ParallelCorpus
from regard.setup.evaluation_details import (
    CalibrationChart,
    EvaluationDetails,
    ScoredRow,
    chart_by_confidence,
    chart_by_length,
    chart_by_rarity,
)
from regard.tasks.sequence_to_sequence.predictor import TargetWriter
from regard.tasks.sequence_to_sequence.token_calibration import chart_token_calibration


def target_details(
    writer: TargetWriter,
    pairs: ParallelCorpus,
    *,
    name: str,
    source_row: str,
    target_row: str,
    scores: Sequence[float],
    confidences: Sequence[float],
    picture: object,
    train: ParallelCorpus | None,
    worst: list[ScoredRow],
    cuts_sources: bool = False,
) -> EvaluationDetails:
    """Return scores by length, rare words and confidence, the calibration of tokens, worst rows.

    Args:
        writer: The model in use.
        pairs: Sources and references.
        name: Name of the score, such as ``chrF``.
        source_row: What a source is, such as ``document``.
        target_row: What a target is, such as ``summary``.
        scores: Scores of each row.
        confidences: Confidence of each output, 0 to 1.
        picture: Scores by length.
        train: The training data; None where it is not at hand.
        worst: The rows with the lowest scores.
        cuts_sources: Whether sources that are too long are cut off instead of divided.
    """
    charts = [
        chart_by_length(picture),
        chart_by_rarity(
            pairs.sources,
            [list(scores)],
            training_texts=None if train is None else train.sources,
            count_tokens=lambda texts: list(map(len, writer.tokenizer.encode(texts))),
            row=source_row,
            names=[name],
        ),
        chart_by_confidence(list(confidences), [list(scores)], row=target_row, names=[name]),
    ]
    calibration = chart_token_calibration(writer, pairs, cuts_sources=cuts_sources)
    return EvaluationDetails(
        charts=[chart for chart in charts if chart is not None],
        calibrations=[calibration] if isinstance(calibration, CalibrationChart) else [],
        worst=worst,
        notes=[calibration] if isinstance(calibration, str) else [],
    )
