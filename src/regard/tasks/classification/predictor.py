"""Inference with a trained classifier: texts or inputs in, labels with probabilities out."""

from __future__ import annotations

import itertools
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, overload

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import TokenRows, parts_to_encode
from regard.data.labeled_text import LabeledTextBatches, LabeledTexts, check_known_labels
from regard.data.listing import describe_lines
from regard.data.readers.source import DataSource
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import Classifier, Model
from regard.settings.validation import iterate_texts, require_texts
from regard.setup.base_predictor import BasePredictor
from regard.setup.config import RunConfig
from regard.tasks.classification.data import (
    L,
    read_labeled_texts_of,
    with_spelling,
)
from regard.tasks.classification.loss import ClassificationLoss, LabeledBatches
from regard.training.distribution import ALONE, World

CLASSIFIED_TOKENS = 8192  # in a batch
_STREAMED_LINES = 512  # lines that are sorted by length and classified together


class Classification(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The label of an input.

    Args:
        label: The most probable label; "" of a text that may have none and has none.
        probability: Its probability, 0 to 1.
        probabilities: Probability of every label by name, most probable first.
        labels: All labels of a text that may have any number of them, most probable first; None
            where inputs have one label each.
        truncated: Tokens of the text, or rows of features of the input, that were cut off, and not
            read; in JSON where there are some.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    labels: tuple[str, ...] | None = None
    truncated: int = 0


class LabelPredictor(BasePredictor, ABC, Generic[L]):
    """A trained classifier of texts or of other inputs.

    Args:
        model: Model in evaluation mode.
        config: The settings of its run.
    """

    verb = "classify"
    unit: str
    """What it classifies, such as ``texts``."""
    length_unit: str
    """What the length of an input is counted in, such as ``tokens``."""
    world: World = ALONE
    """The processes that share its batches; all of them call the same methods."""

    def __init__(self, model: Model, config: RunConfig) -> None:
        self.model, self.config = model, config

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels."""
        return self.config.data.labels

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Maximum number of tokens, patches or rows of features that are read of an input."""

    @abstractmethod
    def read_test(self, data: DataSource) -> L:
        """Read labeled test data with the settings of the training data.

        Raises:
            DataError: The data cannot be read or has unknown labels.
        """

    @abstractmethod
    def batches(self, rows: L, *, batch_tokens: int = ..., seed: int = 0) -> LabeledBatches:
        """Arrange labeled rows in batches of at most `batch_tokens` tokens, patches or steps."""

    def label_ids(self, rows: L) -> list[int]:
        """Return the index of the label of each row."""
        index_of = {label: index for index, label in enumerate(self.labels)}
        return [index_of[label] for label in rows.labels]

    @torch.inference_mode()
    def predict(self, batches: LabeledBatches) -> list[Classification]:
        """Return the label of each input, in the order of the data."""

        def probabilities(rows: NDArray[np.int64]) -> NDArray[np.float32]:  # [batch, labels]
            logits = ClassificationLoss.outputs(self.model, batches.batch(rows))
            return self.probabilities_of(logits.float()).cpu().numpy()

        results: dict[int, Classification] = {}
        order = batches.in_sequence()
        for rows, of_batch in zip(order, self.world.map(probabilities, order), strict=True):
            for row, values in zip(rows.tolist(), of_batch.tolist(), strict=True):
                ranked = sorted(zip(self.labels, values, strict=True), key=lambda item: -item[1])
                results[row] = self.result_of(dict(ranked), batches.truncated[row])
        return [results[row] for row in range(len(results))]

    @staticmethod
    def probabilities_of(logits: Tensor) -> Tensor:
        """Compute the probabilities of the labels from logits, both ``[batch, labels]``."""
        return logits.softmax(-1)

    def result_of(self, probabilities: dict[str, float], truncated: int) -> Classification:
        """Return the label of an input.

        Args:
            probabilities: Of all labels, most probable first.
            truncated: Tokens, or rows of features, of the input that were cut off.
        """
        label, probability = next(iter(probabilities.items()))
        return Classification(
            label=label,
            probability=probability,
            probabilities=probabilities,
            truncated=truncated,
        )

    def describe_cut(self, num_cut: int, num_inputs: int) -> str:
        """Return in words that the end of some inputs was not read."""
        verb = "is" if num_cut == 1 else "are"
        return (
            f"{num_cut:,} of {num_inputs:,} {self.unit} {verb} longer than {self.max_length:,} "
            f"{self.length_unit}: the rest was cut off and not read"
        )

    def warn_of_cut(self, results: Sequence[Classification]) -> None:
        """Warn where the end of some inputs was not read."""
        if num_cut := sum(result.truncated > 0 for result in results):
            warnings.warn(self.describe_cut(num_cut, len(results)), stacklevel=3)


class TextClassifier(LabelPredictor[LabeledTexts]):
    """A trained classifier of texts.

    Args:
        model: Model in evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings of its run.
    """

    unit, length_unit = "texts", "tokens"
    model: Classifier

    def __init__(self, model: Classifier, tokenizer: AnyTokenizer, config: RunConfig) -> None:
        super().__init__(model, config)
        self.tokenizer = tokenizer

    @property
    def max_length(self) -> int:
        """Maximum number of tokens that are read of a text."""
        return min(self.config.data.max_length, self.model.encoder.config.max_positions)

    @overload
    def classify(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, texts: str
    ) -> Classification: ...
    @overload
    def classify(self, texts: Sequence[str]) -> list[Classification]: ...
    def classify(self, texts: str | Sequence[str]) -> Classification | list[Classification]:
        """Classify a text, or several; a text longer than those of training is cut.

        Args:
            texts: One or more.

        Returns:
            The label of each, in the same order; of one string, one label. A blank text has the
            label "" and no probabilities, and is warned of.

        Raises:
            ConfigError: One of them is not a text.
        """
        if isinstance(texts, str):
            return self.classify([texts])[0]
        texts = require_texts(texts, "texts")
        results = self._classify_filled(texts)
        self.warn_of_cut(results)
        _warn_of_blank([i for i, text in enumerate(texts, start=1) if not text.strip()], "text")
        return results

    def stream(self, lines: Iterable[str]) -> Iterator[tuple[str, Classification]]:
        """Classify lines in order and in constant memory, while they are read.

        Yields:
            Each line with its label; a blank line has the label "" and no probabilities, and is
            warned of after the last line.

        Raises:
            ConfigError: A line is not a text.
        """
        blank: list[int] = []
        numbers = itertools.count(1)
        lines = iterate_texts(lines, "lines")
        while chunk := list(itertools.islice(lines, _STREAMED_LINES)):
            blank += [i for i, line in zip(numbers, chunk, strict=False) if not line.strip()]
            yield from zip(chunk, self._classify_filled(chunk), strict=True)
        _warn_of_blank(blank, "line")

    def _classify_filled(self, texts: Sequence[str]) -> list[Classification]:
        """Return the label of each text; a blank one has none."""
        blank = Classification(label="", probability=0.0, probabilities={})
        results = iter(self.classify_rows([text for text in texts if text.strip()]))
        return [next(results) if text.strip() else blank for text in texts]

    def read_test(self, data: DataSource) -> LabeledTexts:
        """Read labeled texts; raise DataError where they cannot be used."""
        texts, _ = read_labeled_texts_of(data, self.config.data)
        texts = with_spelling(texts, self.labels)
        check_known_labels(texts, self.labels, self.config.data.path or "the training data")
        return texts

    def batches(
        self, rows: LabeledTexts, *, batch_tokens: int = CLASSIFIED_TOKENS, seed: int = 0
    ) -> LabeledTextBatches:
        """Arrange labeled texts in batches of at most `batch_tokens` tokens."""
        return self._batches(rows.texts, self.label_ids(rows), batch_tokens, seed)

    def count_truncated(self, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> list[int]:
        """Return the number of tokens of each text that are not among its rows of ids."""
        truncated = [0] * len(texts)
        full = [index for index, row in enumerate(rows) if len(row) >= self.max_length]
        whole = self.tokenizer.encode_truncated(
            [texts[index] for index in full], max_length=sys.maxsize
        )
        for index, row in zip(full, whole, strict=True):
            truncated[index] = len(row) - len(rows[index])
        return truncated

    def classify_rows(self, texts: Sequence[str]) -> list[Classification]:
        """Return the label of each text, with the number of tokens that were cut off."""
        return self.predict(self._batches(texts, [0] * len(texts), CLASSIFIED_TOKENS, 0))

    def _batches(
        self,
        texts: Sequence[str],
        label_ids: Sequence[int] | NDArray[np.uint8],
        batch_tokens: int,
        seed: int,
    ) -> LabeledTextBatches:
        truncated: list[int] = []

        def encode_rows() -> Iterator[list[int]]:
            for numbers in parts_to_encode(texts):
                part = texts[numbers.start : numbers.stop]
                rows = self.tokenizer.encode_truncated(part, max_length=self.max_length)
                truncated.extend(self.count_truncated(part, rows))
                yield from rows

        return LabeledTextBatches(
            TokenRows(encode_rows()),
            label_ids,
            truncated=truncated,
            batch_tokens=batch_tokens,
            seed=seed,
            pad_id=self.model.encoder.config.pad_id,
        )


def _warn_of_blank(numbers: Sequence[int], noun: str) -> None:
    """Warn of texts without a label because they are blank, by their numbers."""
    if numbers:
        warnings.warn(f"{describe_lines(numbers, noun)}: blank, so without a label.", stacklevel=3)
