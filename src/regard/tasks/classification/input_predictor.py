"""A trained classifier of images, recordings or series opened for use."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from numpy.typing import NDArray

from regard.data.labeled_inputs import InputBatches, InputCollator, LabeledInputs
from regard.data.readers.source import as_source
from regard.models import Vit
from regard.setup.config import RunConfig
from regard.tasks.classification.modalities import InputFormat, Modality, modality_of
from regard.tasks.classification.predictor import Classification

CLASSIFIED_TOKENS = 16_384  # patches or rows in a batch
_STREAMED = 256  # inputs read ahead, to be sorted by length and classified together


class InputClassifier:
    """A model folder opened for classifying images, recordings or series.

    Args:
        model: In evaluation mode.
        config: The settings it was made with.
    """

    def __init__(self, model: Vit, config: RunConfig) -> None:
        self.model, self.config = model, config

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it tells apart."""
        return self.config.data.labels

    @property
    def modality(self) -> Modality:
        """What it reads."""
        return modality_of(self.config.task)

    def stream(self, path: str) -> Iterator[tuple[str, Classification]]:
        """Classify a file, all files of a folder, or the rows of a file, in constant memory.

        Args:
            path: Of what the model was trained on: images, WAV files, or rows of numbers.

        Yields:
            Where each input stands, and its label, in the order of reading.

        Raises:
            DataError: Something cannot be read.
        """
        yield from self.stream_placed(
            self.modality.read_unlabeled(InputFormat.of(self.config), as_source(path))
        )

    def stream_placed(
        self, inputs: Iterable[tuple[str, NDArray]]
    ) -> Iterator[tuple[str, Classification]]:
        """Classify inputs as they come; arguments and results as `stream`."""
        inputs = iter(inputs)
        while chunk := list(itertools.islice(inputs, _STREAMED)):
            places = [place for place, _ in chunk]
            yield from zip(places, self.classify([value for _, value in chunk]), strict=True)

    @torch.inference_mode()
    def classify(self, values: Sequence[NDArray]) -> list[Classification]:
        """Classify inputs that are read; rows after those trained on are cut off.

        Args:
            values: Images ``[channels, height, width]`` of the model's size, or rows of features
                ``[length, features]``, as they were in training.

        Returns:
            The label of each, in the same order.
        """
        batches = self.batches(values, [0] * len(values))
        found: list[Classification | None] = [None] * len(values)
        for rows in batches.in_sequence():
            batch = batches.batch(rows)
            probabilities = self.model(batch.inputs, batch.lengths).float().softmax(-1)
            for row, shares in zip(rows.tolist(), probabilities.tolist(), strict=True):
                ranked = sorted(zip(self.labels, shares, strict=True), key=lambda item: -item[1])
                label, probability = ranked[0]
                found[row] = Classification(
                    label=label, probability=probability, probabilities=dict(ranked)
                )
        return [entry for entry in found if entry is not None]

    def batches(self, values: Sequence[NDArray], labels: Sequence[int]) -> InputBatches:
        """Lay inputs out with the numbers of their labels."""
        layout = collator_of(self.config, self.model)
        return InputBatches(values, labels, layout, batch_tokens=CLASSIFIED_TOKENS)


def collator_of(config: RunConfig, model: Vit) -> InputCollator:
    """Tell how inputs become what a model reads."""
    is_image = model.config.input == "image"
    return InputCollator(
        mean=config.data.mean,
        std=config.data.std,
        num_patches=model.config.num_positions if is_image else 0,
        longest=min(config.data.max_length, model.config.max_positions),
    )


def label_numbers(inputs: LabeledInputs, labels: Sequence[str]) -> list[int]:
    """Turn labels into their numbers."""
    number_of = {label: number for number, label in enumerate(labels)}
    return [number_of[label] for label in inputs.labels]
