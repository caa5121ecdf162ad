"""Evaluation of a summarizer on a file, next to floors and another model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from regard.data.listing import pluralize
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.source import DataSource
from regard.metrics import METRICS
from regard.metrics.bootstrap import MetricWithInterval, PairedScore
from regard.metrics.rouge import (
    ROUGE_NAMES,
    RougeScores,
    compare_summaries,
    rouge_rows,
    score_summaries,
)
from regard.metrics.summaries import (
    ExtractiveFragments,
    best_num_words,
    extractive_fragments,
    first_sentence,
)
from regard.metrics.words import first_words, split_words
from regard.setup.evaluation_details import worst_rows
from regard.setup.evaluation_report import EvaluationOptions, EvaluationReport
from regard.setup.held_out import training_rows, unseen_rows
from regard.tasks.sequence_to_sequence.target_details import ScoredTargets, target_details
from regard.tasks.summarization.data import read_documents, read_summarization_data
from regard.tasks.summarization.predictor import Summarizer

_PRINTED_CHARS = 300  # of a document among the worst
_ROWS_FOR_FLOOR = 2000  # training rows by which the number of first words is chosen


class WorstSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One of the worst summaries; `rougeL` is of this summary, 0 to 100."""

    line: int
    rougeL: float  # noqa: N815 - the name of the field
    document: str
    output: str
    reference: str


class SummarizationReport(EvaluationReport, frozen=True, kw_only=True):
    """The scores of a summarizer on a file of documents.

    Args:
        num_documents: Number of documents scored.
        beam: Hypotheses in the search.
        scores: ROUGE with its intervals and signatures.
        first_words: The same of the first words of each document.
        num_first_words: Number of these words, the best by ROUGE-L.
        first_sentence: The same of the first sentence of each document.
        copied: How much the outputs copy from their documents.
        reference_copied: How much the references do.
        num_words: Mean words of an output.
        num_reference_words: Mean words of a reference.
        num_truncated: Documents whose end was cut off.
        max_source_length: Tokens of a document at most.
        worst: The worst summaries, worst first.
        comparison: Differences to another model; None without one.
    """

    num_documents: int
    beam: int
    scores: RougeScores[MetricWithInterval]
    first_words: RougeScores[MetricWithInterval]
    num_first_words: int
    first_sentence: RougeScores[MetricWithInterval]
    copied: ExtractiveFragments
    reference_copied: ExtractiveFragments
    num_words: float
    num_reference_words: float
    num_truncated: int
    max_source_length: int
    worst: list[WorstSummary]
    comparison: RougeScores[PairedScore] | None

    @property
    def num_rows(self) -> int:
        """Number of documents scored."""
        return self.num_documents

    @property
    def intervals(self) -> dict[str, Any]:
        """The four scores of ROUGE."""
        return msgspec.to_builtins(self.scores.by_name())

    @property
    def floors(self) -> dict[str, float | None]:
        """ROUGE-L without a model."""
        return {
            "first_words": self.first_words.rougeL.value,
            "first_sentence": self.first_sentence.rougeL.value,
        }

    def floor_title(self, name: str) -> str:
        """Return what people read of a floor; of the first words, how many they are."""
        if name == "first_words":
            return f"first {self.num_first_words} words"
        return super().floor_title(name)

    @property
    def verdict(self) -> str:
        """The comparison of ROUGE-L with the best floor, in a sentence."""
        floors = {
            "first_words": self.first_words.rougeL,
            "first_sentence": self.first_sentence.rougeL,
        }
        best, floor = max(floors.items(), key=lambda item: item[1].value)
        name = f"the {self.floor_title(best)}"
        score = self.scores.rougeL
        if score.high < floor.low:
            return (
                f"worse than {name} ({floor.value:.1f} ROUGE-L): this model is of no use yet; "
                f"{self.remedy}."
            )
        if score.low <= floor.high:
            return (
                f"not certainly better than {name} ({floor.value:.1f} ROUGE-L): the 95 % "
                f"intervals overlap; {self.remedy}."
            )
        gain = score.value - floor.value
        return f"{gain:.1f} ROUGE-L above {name}, the best floor; the 95 % intervals are apart."

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the worst summaries, scores, floors, copied fragments and the comparison."""
        documents = pluralize(self.num_documents, "document")
        yield "Data", f"{self.path}   {documents}   model {self.model}   beam {self.beam}"
        for entry in self.worst:
            more = " ..." if len(entry.document) > _PRINTED_CHARS else ""
            yield "Worst", f"line {entry.line:,}   ROUGE-L {entry.rougeL:.1f}"
            yield "", f"document  {' '.join(entry.document[:_PRINTED_CHARS].split())}{more}"
            yield "", f"output    {entry.output}"
            yield "", f"wanted    {' '.join(entry.reference.split())}"
        if self.num_truncated:
            yield (
                "Cut",
                f"{self.num_truncated:,} documents after {self.max_source_length:,} tokens",
            )
        for name, score in self.scores.by_name().items():
            interval = f"{score.value:.1f} [{score.low:.1f}, {score.high:.1f}]"
            yield METRICS[name].column, f"{interval}   {score.signature}"
        yield (
            "Floors",
            f"{self.floor_title('first_words')} {_describe(self.first_words)}   "
            f"{self.floor_title('first_sentence')} {_describe(self.first_sentence)}   "
            "(ROUGE-1 / 2 / L)",
        )
        yield "Verdict", self.verdict
        yield (
            "Copied",
            f"{self.copied.coverage:.0f} % of the words, in fragments of "
            f"{self.copied.density:.1f} words (references {self.reference_copied.coverage:.0f} %, "
            f"{self.reference_copied.density:.1f})",
        )
        yield (
            "Length",
            f"{self.num_words:.1f} words (references {self.num_reference_words:.1f})",
        )
        if self.comparison is not None:
            yield "Compare", f"{self.model} against {self.other}, paired bootstrap"
            for name, paired in self.comparison.by_name().items():
                interval = f"[{paired.low:+.1f}, {paired.high:+.1f}]"
                difference = f"{paired.difference:+.1f} {interval}   p = {paired.p_value:.3f}"
                yield "", f"{METRICS[name].column} {difference}"


def _describe(scores: RougeScores[MetricWithInterval]) -> str:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L in short."""
    values = (scores.rouge1.value, scores.rouge2.value, scores.rougeL.value)
    return " / ".join(f"{value:.1f}" for value in values)


def evaluate_summarizer(
    summarizer: Summarizer,
    data: DataSource,
    options: EvaluationOptions,
    other: Summarizer | None = None,
) -> SummarizationReport:
    """Return the scores of the summaries of a file of documents, floors, and the worst of them.

    Args:
        summarizer: The model.
        data: The documents.
        options: How it is evaluated.
        other: Another model to compare with by paired bootstrap.

    Raises:
        DataError: The file cannot be read, or has documents of the training data and `options` do
            not say what becomes of them.
    """
    pairs = read_documents(data, summarizer.config.data)
    train = training_rows(read_summarization_data, summarizer.config)
    pairs = unseen_rows(train, pairs, options)
    documents, references = pairs.sources, pairs.targets
    best = [rows[0] for rows in summarizer.summarize_best(documents, beam=options.beam)]
    outputs = [summary.text for summary in best]
    comparison = None
    if other is not None:
        other_best = other.summarize_best(documents, beam=options.beam)
        other_outputs = [summaries[0].text for summaries in other_best]
        comparison = compare_summaries(outputs, other_outputs, references)
    # Without the training data the floor is the best that the file itself allows.
    num_words = choose_num_words(pairs if train is None else train)
    search = summarizer.config.search
    scores = rouge_rows(outputs, references)[:, ROUGE_NAMES.index("rougeL")].tolist()
    worst = worst_rows(scores, options.num_worst)
    targets = ScoredTargets(
        pairs,
        best,
        "ROUGE-L",
        scores,
        source="document",
        source_row="document",
        target_row="summary",
    )
    picture = targets.by_length()
    details = None
    if options.has_details:
        details = target_details(summarizer, targets, picture, worst, train, cuts_sources=True)
    return SummarizationReport(
        **options.report_fields(),
        path=pairs.path,
        num_documents=len(pairs),
        beam=search.beam if options.beam is None else options.beam,
        scores=score_summaries(outputs, references),
        first_words=score_summaries(
            [first_words(document, num_words) for document in documents], references
        ),
        num_first_words=num_words,
        first_sentence=score_summaries(list(map(first_sentence, documents)), references),
        copied=extractive_fragments(documents, outputs),
        reference_copied=extractive_fragments(documents, references),
        num_words=_mean_words(outputs),
        num_reference_words=_mean_words(references),
        num_truncated=sum(summary.truncated > 0 for summary in best),
        max_source_length=summarizer.max_source_length,
        worst=[
            WorstSummary(
                line=pairs.lines[row],
                rougeL=scores[row],
                document=documents[row],
                output=outputs[row],
                reference=references[row],
            )
            for row in worst
        ],
        comparison=comparison,
        picture=picture,
        details=details,
    )


def choose_num_words(pairs: ParallelCorpus) -> int:
    """Return how many first words are the best summary, by rows spread over all of them."""
    rows = pairs.select(range(0, len(pairs), max(1, len(pairs) // _ROWS_FOR_FLOOR)))
    return best_num_words(rows.sources, rows.targets)


def _mean_words(texts: Sequence[str]) -> float:
    return float(np.mean([len(split_words(text)) for text in texts]))
