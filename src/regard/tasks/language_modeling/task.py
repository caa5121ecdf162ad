"""Language modeling as a task: running text -> segments -> a model that continues a text."""

from __future__ import annotations

import copy
import time
from functools import partial
from typing import Any

import torch

from regard.data.readers.shape import DataShape
from regard.data.readers.text import TextLines
from regard.data.token_stream import StreamBatches, TokenStream
from regard.errors import NextStep
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import DECODERS, Decoder, GptConfig, Model
from regard.models.base.text_model import TextModel
from regard.setup.base_task import (
    FOLDER,
    Evaluator,
    ReadOptions,
    Task,
    TestReport,
    TrainingSetup,
)
from regard.setup.build import summarize_tokens
from regard.setup.config import RunConfig
from regard.setup.presets import LANGUAGE_MODEL_PRESETS
from regard.tasks.language_modeling.data import Prose, read_prose
from regard.tasks.language_modeling.loss import (
    LanguageModelLoss,
    evaluation_batches,
    text_measures,
)
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.training.evaluation_loop import LossEvaluator
from regard.training.events import Report
from regard.training.training_config import TrainingConfig

_SAMPLED_BATCHES = 2
_PROMPT_WORDS = 3


class LanguageModelingSetup(TrainingSetup):
    """A run of language modeling."""

    dataset: Prose
    tokenizer: AnyTokenizer
    model: Any

    def loss(self) -> Any:
        """Make the cross-entropy."""
        return LanguageModelLoss(self.config.training.label_smoothing)

    def evaluator(self) -> Evaluator:
        """Make what computes loss and perplexity."""
        valid = self.dataset.valid
        measure = partial(text_measures, batches=self.evaluated(valid), num_bytes=valid.num_bytes)
        return LossEvaluator(self.model, measure)

    def evaluated(self, lines: TextLines) -> StreamBatches:
        """Lay a held-out text out."""
        stream = TokenStream(lines, self.tokenizer)
        return evaluation_batches(self.model, stream, self.config.data.max_length)

    @torch.no_grad()
    def evaluation_seconds(self, model: TextModel) -> float:
        """Time a few batches of the validation text, and scale up."""
        batches = self.evaluated(self.dataset.valid)
        evaluated = copy.deepcopy(model).to(model.compute_dtype).eval()
        objective, all_rows = self.loss(), batches.in_sequence()
        sample = all_rows[:_SAMPLED_BATCHES]
        objective(evaluated, batches.batch(sample[0]))  # the first pass is slower
        begun = time.perf_counter()
        for rows in sample:
            objective(evaluated, batches.batch(rows))
        return (time.perf_counter() - begun) / len(sample) * len(all_rows)

    def evaluate_test(self, predictor: Any, valid: dict[str, float]) -> TestReport:
        """Measure the loss on the test text."""
        text, test = self.dataset, {}
        shown = f"valid {_figures(valid)}"
        if len(text.test):
            test = predictor.measure(text.test)
            shown += f"   test {_figures(test)}"
        sizes = [f"{part.num_chars:,}" for part in (text.train, text.valid, text.test)]
        return TestReport(
            test=test,
            summary=shown,
            suggested=[NextStep("Try", "generate", (FOLDER, _prompt(text.valid)))],
            kind="A language model",
            rows=f"{sizes[0]} train / {sizes[1]} validation / {sizes[2]} test characters",
            notes="`perplexity` is of a token of this vocabulary; `bits_per_byte` can be compared "
            "between vocabularies.",
        )


class LanguageModelingTask(Task):
    """Running text, of which the next token is learned."""

    name = "language-modeling"
    purpose = "continue a text"
    families = DECODERS
    presets = LANGUAGE_MODEL_PRESETS

    @property
    def defaults(self) -> RunConfig:
        """A GPT without label smoothing, which would raise its perplexity."""
        return RunConfig(
            task=self.name, model=GptConfig(), training=TrainingConfig(label_smoothing=0.0)
        )

    def claims(self, shape: DataShape) -> bool:
        """Whether this is running text: a text file, or records with a text."""
        is_text = shape.kind == "text" and not shape.has_numbers_beside_label
        return is_text or (shape.kind == "records" and "text" in shape.names)

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
        """Encode the text, and cut it into segments."""
        assert tokenizer is not None
        assert isinstance(model, Decoder)
        stream = encode(dataset, tokenizer, config, report)
        assert config.training.batch_tokens is not None
        batches = StreamBatches(
            stream,
            length=config.data.max_length,
            batch_tokens=config.training.batch_tokens,
            seed=config.training.seed,
            context=model.memory_length,
        )
        dataset.length = batches.length
        return LanguageModelingSetup(
            config=config, dataset=dataset, tokenizer=tokenizer, batches=batches, model=model
        )

    def predictor(self, model: Any, tokenizer: Any, config: RunConfig) -> TextGenerator:
        """Return what continues texts with a trained model."""
        return TextGenerator(model, tokenizer, config)


def encode(
    dataset: Prose, tokenizer: AnyTokenizer, config: RunConfig, report: Report
) -> TokenStream:
    """Turn the training text into tokens, and report how the vocabulary cuts it."""
    stream = TokenStream(dataset.train, tokenizer)
    dataset.tokens = stream
    report(summarize_tokens(config, len(tokenizer), dataset.train.texts, len(stream)))
    return stream


def _figures(measures: dict[str, float]) -> str:
    perplexity, bits = measures["perplexity"], measures["bits_per_byte"]
    return f"perplexity {perplexity:.2f}, {bits:.3f} bits/byte"


def _prompt(lines: TextLines) -> str:
    text = next(text for text in lines.texts if text.strip())
    return " ".join(text.replace('"', "").split()[:_PROMPT_WORDS])
