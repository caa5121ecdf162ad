"""Language modeling as a task: running text -> segments -> a model that continues a text."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.readers.text import TextLines, read_text
from regard.data.text_splits import split_text, without_repeats
from regard.data.token_stream import StreamBatches, TokenStream
from regard.data.tokenizer import Tokenizer, check_tags
from regard.errors import ConfigError, DataError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.model_folder import ModelFolder
from regard.models import Decoder, GptConfig
from regard.models.base.text_model import TextModel
from regard.setup.base_task import Evaluator, Outcome, Prepared, Task
from regard.setup.build import build_model, describe_tokens, report_model, settle_precision
from regard.setup.config import DataConfig, RunConfig
from regard.tasks.language_modeling.loss import (
    LanguageModelLoss,
    evaluation_batches,
    text_measures,
)
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.translation.data import describe_lines
from regard.training.evaluation_loop import LossEvaluator
from regard.training.events import Data, Report
from regard.training.training_config import TrainingConfig

_SAMPLED_BATCHES = 2
_PROMPT_WORDS = 3


class Prose(msgspec.Struct, kw_only=True):
    """The text of a run.

    Args:
        path: File as named.
        train: To learn from.
        valid: To choose the best weights by.
        test: For the final figures; may be empty.
        dropped: Lines left out of the held-out parts.
        tokens: Of the training text; None before it is encoded.
    """

    path: str
    train: TextLines
    valid: TextLines
    test: TextLines
    dropped: list[DroppedRow]
    tokens: TokenStream | None = None
    length: int = 0

    @property
    def num_chars(self) -> int:
        """Characters of the training text."""
        return self.train.num_chars

    def place(self, rows: Sequence[int]) -> str:
        """Tell which lines of the file the segments at the given places come from."""
        assert self.tokens is not None
        lines: set[int] = set()
        for row in rows:
            lines.update(self.tokens.lines_between(row, row + self.length + 1))
        return f"line{'' if len(lines) == 1 else 's'} {describe_lines(sorted(lines))}"


class PreparedText(Prepared):
    """A run of language modeling."""

    text: Prose
    model: Any

    def objective(self) -> Any:
        """Make the cross-entropy."""
        return LanguageModelLoss(self.config.training.label_smoothing)

    def evaluator(self) -> Evaluator:
        """Make what computes loss and perplexity."""
        valid = self.text.valid
        measure = partial(text_measures, batches=self.evaluated(valid), num_bytes=valid.num_bytes)
        return LossEvaluator(self.model, measure)

    def evaluated(self, lines: TextLines) -> StreamBatches:
        """Lay a held-out text out."""
        stream = TokenStream(lines, self.tokenizer)
        return evaluation_batches(self.model, stream, self.config.data.max_length)

    @torch.no_grad()
    def evaluation_seconds(self, model: TextModel) -> float:
        """Time a few batches of the validation text, and scale up."""
        batches = self.evaluated(self.text.valid)
        evaluated = copy.deepcopy(model).to(model.compute_dtype).eval()
        objective, all_rows = self.objective(), batches.in_sequence()
        sample = all_rows[:_SAMPLED_BATCHES]
        objective(evaluated, batches.batch(sample[0]))  # the first pass is slower
        begun = time.perf_counter()
        for rows in sample:
            objective(evaluated, batches.batch(rows))
        return (time.perf_counter() - begun) / len(sample) * len(all_rows)

    def finish(self, opened: Any, valid: dict[str, float]) -> Outcome:
        """Measure the loss on the test text."""
        text, test = self.text, {}
        shown = f"valid {_figures(valid)}"
        if len(text.test):
            test = opened.measure(text.test)
            shown += f"   test {_figures(test)}"
        sizes = [f"{part.num_chars:,}" for part in (text.train, text.valid, text.test)]
        return Outcome(
            test=test,
            summary=shown,
            tries=[f'generate {{folder}} "{_prompt(text.valid)}"'],
            kind="A language model",
            rows=f"{sizes[0]} train / {sizes[1]} validation / {sizes[2]} test characters",
            notes="`perplexity` is of a token of this vocabulary; `bits_per_byte` can be compared "
            "between vocabularies.",
        )


class LanguageModeling(Task):
    """Running text, of which the next token is learned."""

    prepared: type[PreparedText] = PreparedText
    """What a run works on."""

    @property
    def defaults(self) -> RunConfig:
        """A GPT without label smoothing, which would spoil its perplexity."""
        return RunConfig(
            task="language-modeling",
            model=GptConfig(),
            training=TrainingConfig(label_smoothing=0.0),
        )

    def read(self, config: RunConfig) -> Prose:
        """Read the text of a configuration, and hold out what it does not name."""
        data = config.data
        if data.path is None:
            raise DataError("no data.  Name a file: regard train book.txt -o FOLDER")
        _refuse_pair_settings(data)
        parts = split_text(
            _read(data.path, data),
            seed=config.training.seed,
            with_valid=not data.valid,
            with_test=not data.test,
        )
        valid, test, dropped = parts.valid, parts.test, parts.dropped
        if data.valid:
            valid, repeats = without_repeats(parts.train, _read(data.valid, data))
            dropped += repeats
        if data.test:
            test, repeats = without_repeats(parts.train, _read(data.test, data))
            dropped += repeats
        if not len(valid):
            raise DataError(
                f"{data.valid or data.path}: no line is left to validate on, all stand in the "
                "training text too.  Name another file: --valid FILE"
            )
        return Prose(path=data.path, train=parts.train, valid=valid, test=test, dropped=dropped)

    def describe(self, text: Prose) -> Data:
        """Tell what the data is."""
        return Data(
            path=text.path,
            unit="characters",
            languages="",
            languages_are_guessed=False,
            num_train=text.train.num_chars,
            num_valid=text.valid.num_chars,
            num_test=text.test.num_chars,
            dropped=count_reasons(text.dropped),
        )

    def prepare(
        self, config: RunConfig, text: Prose, report: Report, *, stored: ModelFolder | None = None
    ) -> Prepared:
        """Train or read the vocabulary, encode the text, build the model."""
        report(self.describe(text))
        if stored is None:
            check_tags(config.tokenizer)
            tokenizer = Tokenizer.train(text.train.texts, config.tokenizer)
        else:
            tokenizer = stored.read_tokenizer()
        stream = TokenStream(text.train, tokenizer)
        report(describe_tokens(config, len(tokenizer), text.train.texts, len(stream)))
        config = settle_precision(config)
        model = build_model(config, len(tokenizer))
        assert isinstance(model, TextModel)
        batches = self.lay_out(config, stream, model, tokenizer)
        text.tokens, text.length = stream, batches.length
        report_model(config, model, report)
        return self.prepared(
            config=config, text=text, tokenizer=tokenizer, batches=batches, model=model
        )

    def lay_out(
        self,
        config: RunConfig,
        stream: TokenStream,
        model: TextModel,
        tokenizer: AnyTokenizer,  # noqa: ARG002 - masked language modeling wants it
    ) -> StreamBatches:
        """Cut the training text into segments."""
        assert isinstance(model, Decoder)
        assert config.training.batch_tokens is not None
        return StreamBatches(
            stream,
            length=config.data.max_length,
            batch_tokens=config.training.batch_tokens,
            seed=config.training.seed,
            context=model.memory_length,
        )

    def open(self, folder: str | Path) -> Any:
        """Open a model folder for generating text."""
        return TextGenerator.open(folder)


def _figures(measures: dict[str, float]) -> str:
    perplexity, bits = measures["perplexity"], measures["bits_per_byte"]
    return f"perplexity {perplexity:.2f}, {bits:.3f} bits/byte"


def _read(path: str, data: DataConfig) -> TextLines:
    column = data.columns[0] if data.columns else "text"
    return read_text(path, encoding=data.encoding, column=column)


def _refuse_pair_settings(data: DataConfig) -> None:
    for name in ("targets", "languages"):
        if getattr(data, name):
            raise ConfigError(
                f"data.{name}={getattr(data, name)}: running text has no pairs.  Leave it out, or "
                "set task=translation."
            )


def _prompt(lines: TextLines) -> str:
    text = next(text for text in lines.texts if text.strip())
    return " ".join(re.sub(r'["{}]', "", text).split()[:_PROMPT_WORDS])
