"""Masked language modeling as a task: text with hidden tokens -> an encoder that predicts them.

Classifiers start from such an encoder.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from regard.data.masking import MASK, MaskedBatches
from regard.data.readers.text import TextLines
from regard.data.token_stream import TokenStream
from regard.data.tokenizer import TokenizerConfig
from regard.errors import NextStep
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import ENCODERS, BertConfig, Encoder, Model
from regard.setup.base_task import FOLDER, ReadOptions, Task, TestReport, TrainingSetup
from regard.setup.config import RunConfig
from regard.setup.presets import ENCODER_PRESETS
from regard.tasks.language_modeling.data import Prose, read_prose
from regard.tasks.language_modeling.loss import EVALUATED_TOKENS
from regard.tasks.language_modeling.task import (
    LanguageModelingSetup,
    encode,
)
from regard.tasks.masked_language_modeling.data import masked_batches
from regard.tasks.masked_language_modeling.loss import MaskedTokenLoss, masked_measures
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.training.evaluation_loop import LossEvaluator
from regard.training.events import Report
from regard.training.training_config import TrainingConfig


class MaskedLanguageModelingSetup(LanguageModelingSetup):
    """A run of masked language modeling."""

    model: Encoder

    def loss(self) -> MaskedTokenLoss:
        """Make the cross-entropy of the hidden tokens."""
        return MaskedTokenLoss(self.config.training.label_smoothing)

    def evaluator(self) -> LossEvaluator:
        """Make what computes loss and perplexity."""
        batches = self.evaluated(self.dataset.valid)
        return LossEvaluator(self.model, partial(masked_measures, batches=batches))

    def evaluated(self, lines: TextLines) -> MaskedBatches:
        """Lay a held-out text out, its hidden tokens always the same."""
        return masked_batches(
            TokenStream(lines, self.tokenizer),
            self.model,
            self.tokenizer,
            length=self.config.data.max_length,
            batch_tokens=EVALUATED_TOKENS,
            seed=0,
        )

    def evaluate_test(self, predictor: TextEncoder, valid: dict[str, float]) -> TestReport:
        """Measure the loss on the test text."""
        dataset = self.dataset
        summary, test = f"valid perplexity {valid['perplexity']:.2f}", {}
        if len(dataset.test):
            test = masked_measures(predictor.model, self.evaluated(dataset.test))
            summary += f"   test perplexity {test['perplexity']:.2f}"
        sizes = [f"{part.num_chars:,}" for part in (dataset.train, dataset.valid, dataset.test)]
        return TestReport(
            test=test,
            summary=f"{summary} of hidden tokens",
            suggested=[
                NextStep(
                    "Try",
                    "train",
                    ("reviews.jsonl",),
                    (("start_from", FOLDER), ("output", "mood")),
                )
            ],
            kind="An encoder trained on hidden tokens",
            rows=f"{sizes[0]} train / {sizes[1]} validation / {sizes[2]} test characters",
            notes="`perplexity` is of a hidden token of this vocabulary.",
        )


class MaskedLanguageModelingTask(Task):
    """Running text, of which hidden tokens are learned."""

    name = "masked-language-modeling"
    purpose = "tell hidden tokens"
    families = ENCODERS
    presets = ENCODER_PRESETS

    @property
    def defaults(self) -> RunConfig:
        """A BERT whose vocabulary has a mask."""
        return RunConfig(
            task=self.name,
            model=BertConfig(),
            tokenizer=TokenizerConfig(tags=(MASK,)),
            training=TrainingConfig(label_smoothing=0.0),
        )

    def read(self, options: ReadOptions) -> Prose:
        """Read the text, and hold out what the options do not name."""
        return read_prose(options)

    def set_up(
        self,
        config: RunConfig,
        dataset: Prose,
        tokenizer: AnyTokenizer | None,
        model: Model,
        report: Report,
    ) -> TrainingSetup:
        """Encode the text, cut it into segments, and hide tokens."""
        assert tokenizer is not None
        assert isinstance(model, Encoder)
        assert config.training.batch_tokens is not None
        batches = masked_batches(
            encode(dataset, tokenizer, config, report),
            model,
            tokenizer,
            length=config.data.max_length,
            batch_tokens=config.training.batch_tokens,
            seed=config.training.seed,
        )
        dataset.length = batches.length
        return MaskedLanguageModelingSetup(
            config=config, dataset=dataset, tokenizer=tokenizer, batches=batches, model=model
        )

    def predictor(self, model: Any, tokenizer: Any, config: RunConfig) -> TextEncoder:
        """Return what computes vectors of texts, and fills in masks, with a trained model."""
        return TextEncoder(model, tokenizer, config)
