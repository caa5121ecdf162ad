"""What the page of an evaluation shows of written targets beyond the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from regard.data.parallel_corpus import ParallelCorpus
from regard.metrics.words import split_words
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


class ScoredTargets(NamedTuple):
    """Written targets with a score each, and the words for them.

    Args:
        pairs: Sources and references.
        outputs: The output for each source.
        metric: Name of the score, such as ``chrF``.
        scores: Score of each row.
        source: What a source is called, such as ``document``.
        source_row: What the row of a source is, such as ``sentence``.
        target_row: What the row of a target is, such as ``summary``.
    """

    pairs: ParallelCorpus
    outputs: Sequence[Candidate]
    metric: str
    scores: Sequence[float]
    source: str
    source_row: str
    target_row: str

    def by_length(self) -> ScoreByLengthPicture:
        """Return the scores by the length of the source."""
        return ScoreByLengthPicture.from_rows(
            [len(split_words(source)) for source in self.pairs.sources],
            [self.scores],
            unit=f"words of the {self.source}",
            row=self.target_row,
            names=[self.metric],
        )


def target_details(
    writer: TargetWriter,
    targets: ScoredTargets,
    picture: ScoreByLengthPicture,
    worst: Sequence[int],
    train: ParallelCorpus | None,
    *,
    cuts_sources: bool = False,
) -> EvaluationDetails:
    """Return scores by length, rare words and confidence, the calibration of tokens, worst rows.

    Args:
        writer: The predictor.
        targets: What it wrote, with scores.
        picture: Their scores by length.
        worst: The rows with the lowest scores, worst first.
        train: The training data; None where it is not at hand.
        cuts_sources: Whether sources that are too long are cut off instead of divided.
    """
    pairs, outputs, name, scores = targets.pairs, targets.outputs, targets.metric, targets.scores
    charts = [
        chart_by_length(picture),
        chart_by_rarity(
            pairs.sources,
            [list(scores)],
            training_texts=None if train is None else train.sources,
            count_tokens=lambda texts: list(map(len, writer.tokenizer.encode(texts))),
            row=targets.source_row,
            names=[name],
        ),
        chart_by_confidence(
            [output.confidence for output in outputs],
            [list(scores)],
            row=targets.target_row,
            names=[name],
        ),
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
                    targets.source: pairs.sources[row],
                    "output": outputs[row].text,
                    "reference": pairs.targets[row],
                },
                explained=ExplainedInput(
                    text=pairs.sources[row],
                    output=outputs[row].text or None,
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
