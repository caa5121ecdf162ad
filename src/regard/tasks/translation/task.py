"""Translation as a task: pairs of sentences -> batches -> a model that translates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.source import DataSource
from regard.errors import NextStep
from regard.hub.any_tokenizer import AnyTokenizer
from regard.metrics.translation import chrf, score_translations
from regard.models import ENCODER_DECODERS, EncoderDecoder
from regard.setup.base_task import FOLDER, RunParts, Task
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.evaluation_report import EvaluationOptions, TestReport
from regard.setup.presets import SEQ2SEQ_PRESETS
from regard.tasks.sequence_to_sequence.target_setup import SequenceToSequenceSetup
from regard.tasks.translation.data import TranslationData, read_translation_data
from regard.tasks.translation.evaluation import (
    TranslationReport,
    evaluate_translator,
    read_test_pairs,
)
from regard.tasks.translation.predictor import Translator
from regard.training.events import Report

_TESTED_ROWS = 500


class TranslationTask(Task):
    """Translation of sentences from one language to another."""

    name = "translation"
    purpose = "translate"
    verbs = (("translate", "TEXT"), ("evaluate", "pairs.tsv"))
    example_data = "pairs.tsv"
    has_picture = True
    sections = frozenset({"tokenizer", "search"})
    unread = frozenset()
    families = ENCODER_DECODERS
    presets = SEQ2SEQ_PRESETS

    @property
    def defaults(self) -> RunConfig:
        """The Transformer."""
        return RunConfig(task=self.name)

    def read(self, options: ReadOptions) -> TranslationData:
        """Read the pairs of a file, or of the embedded corpus where no file is named."""
        return read_translation_data(options)

    def set_up(
        self, parts: RunParts[TranslationData, AnyTokenizer, EncoderDecoder[Any]], report: Report
    ) -> TranslationSetup:
        """Encode the pairs and arrange them in batches; pairs that are too long are dropped."""
        return TranslationSetup(parts, report)

    def predictor(
        self, model: EncoderDecoder[Any], tokenizer: AnyTokenizer, config: RunConfig
    ) -> Translator:
        """Return the translator of a trained model."""
        return Translator(model, tokenizer, config)

    def evaluate(
        self,
        predictor: Translator,
        data: DataSource,
        options: EvaluationOptions,
        other: Translator | None = None,
    ) -> TranslationReport:
        """Score a translator on a file of pairs; see `Task`."""
        pairs = read_test_pairs(data, predictor, options)
        return evaluate_translator(predictor, pairs, options, other)


class TranslationSetup(SequenceToSequenceSetup[TranslationData, ParallelCorpus]):
    """Model, batches, loss and evaluation of a translation model."""

    score_name = "chrf"

    def score(self, outputs: Sequence[str], rows: Sequence[int]) -> dict[str, float]:
        """Return chrF of translations."""
        return {self.score_name: chrf(outputs, self.references(rows))}

    def evaluate_test(self, predictor: Translator, valid: dict[str, float]) -> TestReport:
        """Score beam search on at most 500 to 1,000 of the test pairs."""
        dataset, test = self.dataset, {}
        summary = f"valid chrF {valid['chrf']:.1f}"
        if num_rows := len(dataset.test):
            pairs = dataset.test.select(range(0, num_rows, max(1, num_rows // _TESTED_ROWS)))
            scores = score_translations(
                predictor.translate(pairs.sources),
                pairs.targets,
                target_language=dataset.target_language,
            )
            low, high = scores.chrf.low, scores.chrf.high
            test = {
                "chrf": scores.chrf.value,
                "chrf_low": low,
                "chrf_high": high,
                "bleu": scores.bleu.value,
            }
            summary += (
                f"   test chrF {test['chrf']:.1f} [{low:.1f}, {high:.1f}], BLEU {test['bleu']:.1f}"
            )
        return TestReport(
            test=test,
            summary=summary,
            suggested=[NextStep("Try", "translate", (FOLDER, dataset.valid.sources[0]))],
            kind=f"A translation model ({dataset.languages or 'languages not known'})",
            rows=dataset.describe_sizes(),
            notes="`shuffled_loss` is the loss with the sources of other sentences: a model that "
            "ignores its source has no gap between the two. Test figures are of beam search "
            f"({self.config.search.beam}).",
        )
