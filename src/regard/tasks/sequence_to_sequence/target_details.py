"""What the page of an evaluation shows of written targets beyond the scores."""

from __future__ import annotations

from collections.abc import Sequence

from regard.data.parallel_corpus import ParallelCorpus
from regard.plots.score_by_length import ScoreByLengthPicture
from regard.setup.evaluation_details import (
    CalibrationChart,
    EvaluationDetails,
    ExplainedInput,
    ScoredRow,
    chart_by_confidence,
    chart_by_length,
    chart_by_rarity,
)
from regard.tasks.sequence_to_sequence.predictor import Candidate, TargetWriter
from regard.tasks.sequence_to_sequence.token_calibration import chart_token_calibration


def target_details(
    writer: TargetWriter,
    pairs: ParallelCorpus,
    best: Sequence[Candidate],
    *,
    name: str,
    scores: Sequence[float],
    worst: Sequence[int],
    picture: ScoreByLengthPicture,
    train: ParallelCorpus | None,
    source_role: str,
    source_row: str,
    target_row: str,
    cuts_sources: bool = False,
) -> EvaluationDetails:
    """Return scores by length, rare words and confidence, the calibration of tokens, worst rows.

    Args:
        writer: The predictor.
        pairs: Sources and references.
        best: The output for each source.
        name: Name of the score, such as ``chrF``.
        scores: Score of each row.
        worst: The rows with the lowest scores, worst first.
        picture: Scores by length.
        train: The training data; None where it is not at hand.
        source_role: Title of a source among the texts of a row.
        source_row: What a source is, such as ``document``.
        target_row: What a target is, such as ``summary``.
        cuts_sources: Whether sources that are too long are cut off instead of divided.
    """
    confidences = [output.confidence for output in best]
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
        chart_by_confidence(confidences, [list(scores)], row=target_row, names=[name]),
    ]
    calibration = chart_token_calibration(writer, pairs, cuts_sources=cuts_sources)
    return EvaluationDetails(
        charts=charts,
        calibrations=[calibration] if isinstance(calibration, CalibrationChart) else [],
        worst=[
            ScoredRow(
                where=f"line {pairs.lines[row]:,}",
                score=f"{name} {scores[row]:.1f}",
                texts={
                    source_role: pairs.sources[row],
                    "output": best[row].text,
                    "reference": pairs.targets[row],
                },
                explained=ExplainedInput(
                    text=pairs.sources[row],
                    output=best[row].text or None,
                    languages=_languages_of(writer),
                ),
            )
            for row in worst
        ],
        notes=[calibration] if isinstance(calibration, str) else [],
    )


def _languages_of(writer: TargetWriter) -> tuple[str | None, str] | None:
    """Return the pair of languages that a model of many translates; None of another model."""
    languages = writer.tokenizer.languages
    if languages is None or languages.target is None:
        return None
    return languages.source, languages.target
