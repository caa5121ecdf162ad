"""Inference with a trained classifier of images, recordings or series."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import overload

import numpy as np
from numpy.typing import NDArray

from regard.data.labeled_inputs import InputBatches, InputCollator, LabeledInputs
from regard.data.labeled_text import check_known_labels
from regard.data.listing import pluralize
from regard.data.readers.images import describe_frames
from regard.data.readers.source import DataSource, as_source
from regard.errors import ConfigError
from regard.models import Vit
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.tasks.classification.data import with_spelling
from regard.tasks.classification.modalities import modality_of
from regard.tasks.classification.modalities.base import InputFormat
from regard.tasks.classification.predictor import Classification, LabelPredictor

CLASSIFIED_PATCHES = 16_384  # or rows of features, in a batch
_STREAMED_INPUTS = 256  # that are sorted by length and classified together


class InputClassifier(LabelPredictor[LabeledInputs]):
    """A trained classifier of images, recordings or series.

    Args:
        model: Model in evaluation mode.
        config: The settings of its run.
    """

    model: Vit

    def __init__(self, model: Vit, config: RunConfig) -> None:
        super().__init__(model, config)
        self.modality = modality_of(config.task)
        self.unit = self.modality.unit
        self.length_unit = "frames" if self.unit == "recordings" else "rows"
        self.input_format = InputFormat.from_options(ReadOptions.from_config(config))
        self.collator = InputCollator(
            mean=config.data.mean,
            std=config.data.std,
            num_patches=model.config.num_positions if model.config.input == "image" else 0,
            longest=min(config.data.max_length, model.config.max_positions),
        )

    def stream(self, path: str) -> Iterator[tuple[str, Classification]]:
        """Classify a file, all files of a folder, or the rows of a file, in constant memory.

        Args:
            path: Path of inputs like those of training: images, WAV files, or rows of numbers.

        Yields:
            Where each input is in the data, and its label, in the order of reading. A table whose
            series all have fewer rows than those of training may have is warned of at the end.

        Raises:
            DataError: An input cannot be read.
        """
        lengths: list[int] = []
        inputs = self.modality.read_unlabeled(self.input_format, as_source(path))
        while chunk := list(itertools.islice(inputs, _STREAMED_INPUTS)):
            locations, values = zip(*chunk, strict=True)
            lengths += map(len, values)
            yield from zip(locations, self.classify_rows(values), strict=True)
        if not self.modality.reads_files:
            self._warn_of_short(path, lengths)

    def _warn_of_short(self, path: str, lengths: Sequence[int]) -> None:
        """Warn where the series of a table all have one length, and training had longer ones."""
        longest = self.collator.longest
        if len(lengths) > 1 and len(set(lengths)) == 1 and lengths[0] < longest:
            warnings.warn(
                f"{path}: every series is {pluralize(lengths[0], 'row')} long; those of training "
                f"are up to {longest:,}.  Columns missing?",
                stacklevel=3,
            )

    @overload
    def classify(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, values: str | PathLike[str]
    ) -> Classification: ...
    @overload
    def classify(self, values: Sequence[NDArray | str | PathLike[str]]) -> list[Classification]: ...
    def classify(
        self, values: str | PathLike[str] | Sequence[NDArray | str | PathLike[str]]
    ) -> Classification | list[Classification]:
        """Classify inputs; rows of features after the longest of training are cut off.

        Args:
            values: Images of shape ``[channels, height, width]`` and the model's size, or rows of
                features of shape ``[length, features]``, as they were in training; or paths of
                images or recordings, or one such path.

        Returns:
            The label of each, in the same order; of one path, one label.

        Raises:
            ConfigError: One of them is not an array of finite numbers of this shape, nor the path
                of a file with one input.
            DataError: A file cannot be read.
        """
        if isinstance(values, str | PathLike):
            return self.classify([values])[0]
        if not isinstance(values, Iterable):
            raise ConfigError(
                f"`values`: a list of arrays was expected, not {type(values).__name__}."
            )
        results = self.classify_rows(
            [
                self._read(value) if isinstance(value, str | PathLike) else self._checked(value, i)
                for i, value in enumerate(values)
            ]
        )
        self.warn_of_cut(results)
        return results

    def _read(self, path: str | PathLike[str]) -> NDArray:
        """Return the one input of a file; raise ConfigError for a file or folder of several."""
        source = as_source(str(path))
        if self.modality.reads_files and not source.is_folder:
            inputs = self.modality.read_unlabeled(self.input_format, source)
            (_, values), *second = itertools.islice(inputs, 2)
            if not second:
                return values
        raise ConfigError(f"{path}: may have several {self.unit}.  The label of each: stream(PATH)")

    def classify_rows(self, values: Sequence[NDArray]) -> list[Classification]:
        """Return the label of each input, with the number of its rows that were cut off.

        The shape of an input is ``[channels, height, width]`` or ``[length, features]``.
        """
        labels = [0] * len(values)
        return self.predict(
            InputBatches(values, labels, self.collator, batch_tokens=CLASSIFIED_PATCHES)
        )

    def _checked(self, value: NDArray, number: int) -> NDArray:
        """Return the array of an input, ``[channels, height, width]`` or ``[length, features]``.

        Raises:
            ConfigError: The model cannot read it.
        """
        config, array = self.model.config, np.asarray(value)
        is_number = array.dtype.kind in "biuf"
        if config.input == "image":
            expected = f"{[config.channels, config.height, config.width]}"
            fits = array.shape == (config.channels, config.height, config.width)
        else:
            expected = f"[length, {config.num_features}]"
            fits = array.ndim == 2 and len(array) > 0 and array.shape[1] == config.num_features
        if not is_number or not fits:
            actual = f"{list(array.shape)}" if is_number else type(value).__name__
            raise ConfigError(
                f"`values[{number}]`: an array of numbers of shape {expected} was expected, not "
                f"{actual}.  The inputs of a file: stream(PATH)"
            )
        if not np.isfinite(array).all():
            raise ConfigError(f"`values[{number}]`: some of its numbers are not finite.")
        return array

    @property
    def max_length(self) -> int:
        """Maximum number of patches of an image, or rows of features, that are read."""
        return self.collator.num_patches or self.collator.longest

    def read_test(self, data: DataSource) -> LabeledInputs:
        """Read labeled inputs; raise DataError where they cannot be used."""
        inputs = self.modality.read_test(self.input_format, data)
        for note in describe_frames(inputs.several_frames()):
            warnings.warn(note, stacklevel=2)
        inputs = with_spelling(inputs, self.labels)
        check_known_labels(inputs, self.labels, "the training data")
        return inputs

    def batches(
        self, rows: LabeledInputs, *, batch_tokens: int = CLASSIFIED_PATCHES, seed: int = 0
    ) -> InputBatches:
        """Arrange labeled inputs in batches of at most `batch_tokens` patches or rows."""
        return InputBatches(
            rows.values, self.label_ids(rows), self.collator, batch_tokens=batch_tokens, seed=seed
        )
