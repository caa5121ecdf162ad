"""A training run of a translator: its score, and its figures on the test pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regard.data.parallel_corpus import ParallelCorpus
from regard.errors import NextStep
from regard.metrics.baselines import copy_source
from regard.metrics.translation import chrf, score_translations
from regard.setup.base_task import FOLDER
from regard.setup.evaluation_report import TestReport
from regard.tasks.sequence_to_sequence.target_setup import SequenceToSequenceSetup
from regard.tasks.translation.data import TranslationData

if TYPE_CHECKING:
    from regard.tasks.translation.predictor import Translator

_TESTED_ROWS = 500


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
                [best[0].text for best in predictor.translate_best(pairs.sources)],
                pairs.targets,
                target_language=dataset.target_language,
            )
            low, high = scores.chrf.low, scores.chrf.high
            floor = chrf(copy_source(pairs.sources), pairs.targets)
            test = {
                "chrf": scores.chrf.value,
                "chrf_low": low,
                "chrf_high": high,
                "bleu": scores.bleu.value,
                "copy_chrf": floor,
            }
            summary += (
                f"   test chrF {test['chrf']:.1f} [{low:.1f}, {high:.1f}], BLEU {test['bleu']:.1f} "
                f"(copying the source: chrF {floor:.1f})"
            )
        return TestReport(
            test=test,
            summary=summary,
            suggested=[NextStep("Try", "translate", (FOLDER, dataset.valid.sources[0]))],
            kind=f"A translation model ({dataset.languages or 'languages not known'})",
            rows=dataset.describe_sizes(),
            notes="`shuffled_loss` is the loss with the sources of other sentences: a model that "
            "ignores its source has no gap between the two. Test figures are of beam search "
            f"({self.config.search.beam}); `copy_chrf` is that of the sources themselves, a floor.",
        )
