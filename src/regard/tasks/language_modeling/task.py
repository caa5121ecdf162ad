"""Language modeling as a task: running text -> segments -> a model that continues a text."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from regard.data.readers.running_text import TextLines
from regard.data.readers.shape import DataShape
from regard.data.token_stream import StreamBatches, TokenStream
from regard.errors import NextStep
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import DECODERS, Decoder, GptConfig
from regard.setup.base_task import FOLDER, LABEL_SETS, Task
from regard.setup.build import summarize_tokens
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions, TrainingRow
from regard.setup.evaluation_report import TestReport
from regard.setup.training_setup import RunParts, TrainingSetup
from regard.tasks.language_modeling.data import TextData, read_text_data
from regard.tasks.language_modeling.loss import (
    LanguageModelLoss,
    evaluation_batches,
    text_measures,
)
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.training.evaluation_loop import LossEvaluator, time_evaluation
from regard.training.events import OutputExample, Report
from regard.training.output_examples import choose_examples, output_example
from regard.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from regard.hub.hugging_face.published_folder import Published

_PROMPT_WORDS = 3
_PROMPT_CHARACTERS = 40  # of a validation line that is continued during training
_CONTINUED_LINES, _CONTINUED_TOKENS = 3, 16


class LanguageModelingTask(Task):
    """Prediction of the next token of running text."""

    name = "language-modeling"
    purpose = "continue a text"
    verbs = (("generate", "PROMPT"), ("evaluate", "other.txt"))
    example_data = "book.txt"
    sections = frozenset({"tokenizer", "sampling"})
    unread = frozenset({"source_prefix", *LABEL_SETS})
    families = DECODERS
    preset_table = "LANGUAGE_MODEL_PRESETS"
    predictor = TextGenerator
    evaluation = "regard.tasks.language_modeling.evaluation.evaluate_text"

    @property
    def defaults(self) -> RunConfig:
        """A GPT without label smoothing, which would raise its perplexity."""
        return RunConfig(
            task=self.name, model=GptConfig(), training=TrainingConfig(label_smoothing=0.0)
        )

    def claims(self, shape: DataShape) -> bool:
        """Whether the data is a text file, or has texts under ``text``, in a table nothing else."""
        is_text = shape.kind == "text" and not shape.has_numbers_beside_label
        is_text |= shape.names == ("text",)
        has_text = shape.kind == "records" and "text" in shape.names
        return is_text or (has_text and not shape.has_unnamed_label)

    def claims_published(self, published: Published) -> bool:
        """Whether it is a decoder."""
        return self.has_format_of(published)

    def published_config(self, published: Published) -> RunConfig:
        """Return its settings, with how its folder samples; see `Task`."""
        from regard.setup.published_config import decoder_config

        return decoder_config(published, self.name)

    def read(self, options: ReadOptions) -> TextData:
        """Read the text and split it."""
        return read_text_data(options)

    def set_up(
        self, parts: RunParts[TextData, AnyTokenizer, Decoder], report: Report
    ) -> LanguageModelingSetup:
        """Encode the text and cut it into segments."""
        batches = StreamBatches(
            encode(parts, report),
            length=parts.config.data.max_length,
            batch_tokens=parts.batch_tokens,
            seed=parts.config.training.seed,
            context=parts.model.memory_length,
        )
        parts.dataset.length = batches.length
        return LanguageModelingSetup(parts, batches)


class LanguageModelingSetup(TrainingSetup[TextData, AnyTokenizer, Decoder]):
    """Model, batches, loss and evaluation of a language model."""

    def loss(self) -> LanguageModelLoss:
        """Return the cross-entropy of the next token."""
        return LanguageModelLoss(self.config.training.label_smoothing)

    def training_row(self, row: int) -> TrainingRow:
        """Return the text of a segment, by the index of its first token."""
        assert self.dataset.tokens is not None
        ids = self.dataset.tokens.ids[row : row + self.dataset.length + 1]
        return TrainingRow(self.dataset.locate([row]), self.tokenizer.decode_text(ids.tolist()))

    def evaluator(self) -> LossEvaluator:
        """Return the evaluator of loss and perplexity."""
        valid = self.dataset.valid
        batches = self._held_out_batches(valid)
        return LossEvaluator(
            self.model,
            partial(text_measures, batches=batches, num_bytes=valid.num_bytes, world=self.world),
            self._show,
        )

    def _show(self, model: Decoder) -> list[OutputExample]:
        """Return how a model continues a few validation lines, next to their own continuation."""
        lines = [text for text in self.dataset.valid.texts if len(text) > 2 * _PROMPT_CHARACTERS]
        examples = []
        for index in choose_examples(len(lines))[:_CONTINUED_LINES]:
            line = lines[index]
            space = line.rfind(" ", 0, _PROMPT_CHARACTERS)
            end = space if space > 0 else _PROMPT_CHARACTERS
            output = self._continue(model, line[:end])
            reference = line[end : end + 2 * _PROMPT_CHARACTERS]
            examples.append(output_example(line[:end], output.strip(), reference.strip()))
        return examples

    def _continue(self, model: Decoder, prompt: str) -> str:
        """Return the most probable next tokens, one after the other, without a cache of keys."""
        start = self.tokenizer.encode_prompt(prompt)
        ids = list(start)
        while ids and len(ids) < min(len(start) + _CONTINUED_TOKENS, self.dataset.length):
            logits = model(torch.tensor([ids], device=model.device))  # [1, length, vocab]
            token = int(logits[0, -1, : len(self.tokenizer)].argmax())
            if token in self.tokenizer.stop_ids:
                break
            ids.append(token)
        return self.tokenizer.decode_text(ids[len(start) :])

    def evaluation_seconds(self, model: Decoder) -> float:
        """Time a few batches of the validation text, and scale up."""
        batches = self._held_out_batches(self.dataset.valid)
        return time_evaluation(self.loss(), model, batches, self.world)

    def evaluate_test(self, predictor: TextGenerator, valid: dict[str, float]) -> TestReport:
        """Compute loss, perplexity and bits per byte on the test text."""
        dataset = self.dataset
        test = predictor.measure(dataset.test) if len(dataset.test) else {}
        prompt = next(text for text in dataset.valid.texts if text.strip())
        prompt = " ".join(prompt.replace('"', "").split()[:_PROMPT_WORDS])
        return TestReport(
            test=test,
            summary="   ".join(
                f"{part} perplexity {measures['perplexity']:.2f}, "
                f"{measures['bits_per_byte']:.3f} bits/byte"
                for part, measures in (("valid", valid), ("test", test))
                if measures
            ),
            suggested=[NextStep("Try", "generate", (FOLDER, prompt))],
            kind="A language model",
            rows=f"{dataset.describe_sizes()} characters",
            notes="`perplexity` is of a token of this vocabulary; `bits_per_byte` can be compared "
            "between vocabularies.",
        )

    def _held_out_batches(self, lines: TextLines) -> StreamBatches:
        stream = TokenStream(lines, self.tokenizer)
        return evaluation_batches(self.model, stream, self.config.data.max_length)


def encode(parts: RunParts[TextData, AnyTokenizer, Any], report: Report) -> TokenStream:
    """Encode the training text, keep its tokens in the data, and report their number."""
    texts, tokenizer = parts.dataset.train, parts.tokenizer
    stream = parts.dataset.tokens = TokenStream(texts, tokenizer)
    report(summarize_tokens(parts.config, len(tokenizer), texts.texts, len(stream)))
    return stream


LANGUAGE_MODELING = LanguageModelingTask()
