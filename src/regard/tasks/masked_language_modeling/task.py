"""Masked language modeling as a task: text with hidden tokens -> an encoder that predicts them.

Classifiers start from such an encoder.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from regard.data.masking import MASK, MaskedBatches
from regard.data.readers.running_text import TextLines
from regard.data.token_stream import TokenStream
from regard.data.tokenizer import TokenizerConfig
from regard.errors import NextStep
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import ENCODERS, BertConfig, Encoder
from regard.setup.base_task import FOLDER, Task
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.evaluation_report import TestReport
from regard.setup.training_setup import RunParts, TrainingSetup
from regard.tasks.language_modeling.data import TextData, read_text_data
from regard.tasks.language_modeling.loss import EVALUATED_TOKENS
from regard.tasks.language_modeling.task import encode
from regard.tasks.masked_language_modeling.data import masked_batches
from regard.tasks.masked_language_modeling.loss import MaskedTokenLoss, masked_measures
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.training.evaluation_loop import LossEvaluator, time_evaluation
from regard.training.events import Report
from regard.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from regard.hub.hugging_face.published_folder import Published


class MaskedLanguageModelingTask(Task):
    """Prediction of hidden tokens of running text."""

    name = "masked-language-modeling"
    purpose = "predict hidden tokens"
    example_data = "reviews.jsonl"
    computes_vectors = True
    families = ENCODERS
    preset_table = "ENCODER_PRESETS"
    predictor = TextEncoder

    @property
    def defaults(self) -> RunConfig:
        """A BERT whose vocabulary has a mask."""
        return RunConfig(
            task=self.name,
            model=BertConfig(),
            tokenizer=TokenizerConfig(tags=(MASK,)),
            training=TrainingConfig(label_smoothing=0.0),
        )

    def claims_published(self, published: Published) -> bool:
        """Whether it is an encoder without labels that finds no answers."""
        has_head = published.labels or published.finds_spans
        return self.has_format_of(published) and not has_head

    def read(self, options: ReadOptions) -> TextData:
        """Read the text and split it."""
        return read_text_data(options)

    def set_up(
        self, parts: RunParts[TextData, AnyTokenizer, Encoder], report: Report
    ) -> MaskedLanguageModelingSetup:
        """Encode the text, cut it into segments, and hide tokens."""
        batches = masked_batches(
            encode(parts, report),
            parts.model,
            parts.tokenizer,
            length=parts.config.data.max_length,
            batch_tokens=parts.batch_tokens,
            seed=parts.config.training.seed,
        )
        parts.dataset.length = batches.length
        return MaskedLanguageModelingSetup(parts, batches)


class MaskedLanguageModelingSetup(TrainingSetup[TextData, AnyTokenizer, Encoder]):
    """Model, batches, loss and evaluation of a masked language model."""

    def loss(self) -> MaskedTokenLoss:
        """Return the cross-entropy of the hidden tokens."""
        return MaskedTokenLoss(self.config.training.label_smoothing)

    def evaluator(self) -> LossEvaluator:
        """Return the evaluator of loss and perplexity."""
        batches = self._held_out_batches(self.dataset.valid)
        return LossEvaluator(
            self.model, partial(masked_measures, batches=batches, world=self.world)
        )

    def evaluation_seconds(self, model: Encoder) -> float:
        """Time a few batches of the validation text, and scale up."""
        batches = self._held_out_batches(self.dataset.valid)
        return time_evaluation(self.loss(), model, batches, self.world)

    def evaluate_test(self, predictor: TextEncoder, valid: dict[str, float]) -> TestReport:
        """Compute loss and perplexity on the test text."""
        dataset = self.dataset
        summary, test = f"valid perplexity {valid['perplexity']:.2f}", {}
        if len(dataset.test):
            batches = self._held_out_batches(dataset.test)
            test = masked_measures(predictor.model, batches, self.world)
            summary += f"   test perplexity {test['perplexity']:.2f}"
        settings = (("start_from", FOLDER), ("output", "mood"))
        return TestReport(
            test=test,
            summary=f"{summary} of hidden tokens",
            suggested=[NextStep("Try", "train", ("reviews.jsonl",), settings)],
            kind="An encoder trained on hidden tokens",
            rows=f"{dataset.describe_sizes()} characters",
            notes="`perplexity` is of a hidden token of this vocabulary.",
        )

    def _held_out_batches(self, lines: TextLines) -> MaskedBatches:
        """Cut held-out text into segments; its hidden tokens are always the same."""
        return masked_batches(
            TokenStream(lines, self.tokenizer),
            self.model,
            self.tokenizer,
            length=self.config.data.max_length,
            batch_tokens=EVALUATED_TOKENS,
            seed=0,
        )


MASKED_LANGUAGE_MODELING = MaskedLanguageModelingTask()
