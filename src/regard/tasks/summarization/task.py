"""Summarization as a task: documents with summaries -> batches -> a model that summarizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.columns import SUMMARY_ROLES
from regard.errors import NextStep
from regard.generation.beam_search_config import NEW_SEARCH
from regard.metrics.rouge import rouge_l, score_summaries
from regard.metrics.summaries import first_sentence
from regard.metrics.words import first_words
from regard.models import ENCODER_DECODERS, EncoderDecoder
from regard.setup.base_task import FOLDER, LABEL_SETS, Task
from regard.setup.config import RunConfig
from regard.setup.evaluation_report import TestReport
from regard.tasks.sequence_to_sequence.target_setup import SequenceToSequenceSetup
from regard.tasks.summarization.data import SummarizationData, read_summarization_data
from regard.tasks.summarization.evaluation import choose_num_words
from regard.tasks.summarization.predictor import Summarizer

if TYPE_CHECKING:
    from regard.data.readers.shape import DataShape
    from regard.hub.any_tokenizer import AnyTokenizer
    from regard.setup.dataset import ReadOptions
    from regard.setup.training_setup import RunParts
    from regard.training.events import Report

_TESTED_ROWS = 500
_SUGGESTED_CHARS, _SUGGESTED_WORDS = 200, 30  # of a document in a suggested command


class SummarizationTask(Task):
    """Summarization of documents."""

    name = "summarization"
    purpose = "summarize"
    verbs = (("summarize", "FILE"), ("evaluate", "documents.jsonl"))
    example_data = "documents.jsonl"
    training_data = "documents with summaries"
    has_picture = True
    has_long_sources = True
    begins_with_gist = True
    sections = frozenset({"tokenizer", "search"})
    unread = frozenset(LABEL_SETS)
    families = ENCODER_DECODERS
    preset_table = "SUMMARIZATION_PRESETS"
    predictor = Summarizer
    evaluation = "regard.tasks.summarization.evaluation.evaluate_summarizer"

    @property
    def defaults(self) -> RunConfig:
        """The Transformer, which writes no three tokens in a row twice (Paulus et al. 2017)."""
        search = replace(NEW_SEARCH, no_repeat_size=3, max_length_ratio=1.0)
        return RunConfig(task=self.name, search=search)

    def claims(self, shape: DataShape) -> bool:
        """Whether a file has a column of documents and one of summaries."""
        return shape.columns.keys() >= set(SUMMARY_ROLES)

    def read(self, options: ReadOptions) -> SummarizationData:
        """Read the documents of a file."""
        return read_summarization_data(options)

    def set_up(
        self, parts: RunParts[SummarizationData, AnyTokenizer, EncoderDecoder[Any]], report: Report
    ) -> SummarizationSetup:
        """Encode the documents and arrange them in batches; the end of long ones is cut off."""
        return SummarizationSetup(parts, report)


class SummarizationSetup(SequenceToSequenceSetup[SummarizationData, ParallelCorpus]):
    """Model, batches, loss and evaluation of a summarizer."""

    score_name = "rougeL"

    def __init__(
        self, parts: RunParts[SummarizationData, AnyTokenizer, EncoderDecoder[Any]], report: Report
    ) -> None:
        super().__init__(parts, report)
        self.dataset.truncated += self.truncated
        self.report_cut(report, "documents", "summary", "summaries")

    def score(self, outputs: Sequence[str], rows: Sequence[int]) -> dict[str, float]:
        """Return ROUGE-L of summaries."""
        return {self.score_name: rouge_l(outputs, self.references(rows))}

    def evaluate_test(self, predictor: Summarizer, valid: dict[str, float]) -> TestReport:
        """Score beam search on at most 500 to 1,000 of the test documents."""
        dataset, test = self.dataset, {}
        summary = f"valid ROUGE-L {valid['rougeL']:.1f}"
        if num_rows := len(dataset.test):
            pairs = dataset.test.select(range(0, num_rows, max(1, num_rows // _TESTED_ROWS)))
            best = predictor.summarize_best(pairs.sources)
            scores = score_summaries([outputs[0].text for outputs in best], pairs.targets)
            num_words = choose_num_words(dataset.train)
            floor = rouge_l([first_words(text, num_words) for text in pairs.sources], pairs.targets)
            low, high = scores.rougeL.low, scores.rougeL.high
            test = {
                "rougeL": scores.rougeL.value,
                "rougeL_low": low,
                "rougeL_high": high,
                "rouge1": scores.rouge1.value,
                "rouge2": scores.rouge2.value,
                "first_words_rougeL": floor,
            }
            summary += (
                f"   test ROUGE-L {test['rougeL']:.1f} [{low:.1f}, {high:.1f}], "
                f"ROUGE-1 {test['rouge1']:.1f}, ROUGE-2 {test['rouge2']:.1f}   "
                f"(first {num_words} words: ROUGE-L {floor:.1f})"
            )
        document = " ".join(first_sentence(dataset.valid.sources[0]).split())
        if len(document) > _SUGGESTED_CHARS:
            document = first_words(document, _SUGGESTED_WORDS)
        language = f" ({dataset.language})" if dataset.language else ""
        return TestReport(
            test=test,
            summary=summary,
            suggested=[NextStep("Try", "summarize", (FOLDER, document))],
            kind=f"A summarization model{language}",
            rows=dataset.describe_sizes(),
            notes="`rougeL` is the mean F1 of ROUGE-L in percent; words of every script count. "
            "`first_words_rougeL` is that of the first words of each document, a floor. "
            "`shuffled_loss` is the loss with other documents: a model that ignores its document "
            "has no gap between the two. Test figures are of beam search "
            f"({self.config.search.beam}); a document is read up to "
            f"{predictor.max_source_length:,} tokens.",
        )


SUMMARIZATION = SummarizationTask()
