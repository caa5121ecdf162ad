"""A trained classifier opened for use: texts go in, labels with probabilities come out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import msgspec
import torch

from regard.data.batching import TokenRows
from regard.data.labeled_text import LabeledTextBatches
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import Classifier
from regard.setup.config import RunConfig

CLASSIFIED_TOKENS = 8192  # in a batch
_STREAMED_LINES = 512  # read ahead, to be sorted by length and classified together


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """The label of a text.

    Args:
        label: The most probable.
        probability: Of that label, 0 to 1.
        probabilities: Of every label, by name, most probable first.
    """

    label: str
    probability: float
    probabilities: dict[str, float]


class TextClassifier:
    """A model folder opened for classifying texts.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings it was made with.
    """

    def __init__(self, model: Classifier, tokenizer: AnyTokenizer, config: RunConfig) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it tells apart."""
        return self.config.data.labels

    @overload
    def classify(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, texts: str
    ) -> Classification: ...
    @overload
    def classify(self, texts: Sequence[str]) -> list[Classification]: ...
    @torch.inference_mode()
    def classify(self, texts: str | Sequence[str]) -> Classification | list[Classification]:
        """Classify a text, or several; what is longer than the model was trained on is cut.

        Args:
            texts: One or more.

        Returns:
            The label of each, in the same order; of one string, one label.
        """
        if isinstance(texts, str):
            return self.classify([texts])[0]
        batches = self.batches(texts, [0] * len(texts))
        found: list[Classification | None] = [None] * len(texts)
        for rows in batches.in_sequence():
            probabilities = self.model(batches.batch(rows).ids).float().softmax(-1)
            for row, values in zip(rows.tolist(), probabilities.tolist(), strict=True):
                ranked = sorted(zip(self.labels, values, strict=True), key=lambda item: -item[1])
                label, probability = ranked[0]
                found[row] = Classification(
                    label=label, probability=probability, probabilities=dict(ranked)
                )
        return [entry for entry in found if entry is not None]

    def stream(self, lines: Iterable[str]) -> Iterator[tuple[str, Classification]]:
        """Classify lines as they come, in constant memory, order kept.

        Yields:
            Each line with its label.
        """
        lines = iter(lines)
        while chunk := list(itertools.islice(lines, _STREAMED_LINES)):
            yield from zip(chunk, self.classify(chunk), strict=True)

    def batches(self, texts: Sequence[str], labels: Sequence[int]) -> LabeledTextBatches:
        """Lay texts out with the numbers of their labels."""
        rows = self.tokenizer.encode_whole(
            texts, max_length=longest_text(self.model, self.config.data.max_length)
        )
        return LabeledTextBatches(
            TokenRows(rows),
            labels,
            batch_tokens=CLASSIFIED_TOKENS,
            pad_id=self.model.encoder.config.pad_id,
        )


def longest_text(model: Classifier, max_length: int) -> int:
    """Return how many tokens a model reads of a text, at most `max_length`."""
    return min(max_length, model.encoder.config.max_positions)
