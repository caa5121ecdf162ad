"""The interface of a kind of inputs: their files, and the sizes that fit the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from regard.data.labeled_inputs import LabeledInputs, precision_of
from regard.data.readers.audio import LogMelConfig
from regard.data.readers.images import ImageSize
from regard.data.readers.series import NumberRow, read_number_rows, read_unlabeled_rows
from regard.data.readers.shape import DataShape
from regard.data.readers.source import DataSource
from regard.errors import ConfigError
from regard.models.vit.model import VitConfig
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions

Parts = dict[str, LabeledInputs]
"""``train``, and ``valid`` and ``test`` where the authors of the data hold some out."""
LocatedInputs = Iterator[tuple[str, NDArray]]
"""Where each input is in the data, and its values."""
MOST_ROWS = 1024
"""Rows of features that are read of an input by default: ten seconds of a recording."""
_IMAGE_SIZES = ("input", "channels", "height", "width", "patch_height", "patch_width")
_FEATURE_SIZES = ("input", "num_features")


class InputFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How inputs are read, and the sizes that they are brought to.

    Args:
        data: Columns, encoding and most rows.
        model: A configuration with the sizes of the inputs.
        audio: How recordings become frames.
        has_sizes: Whether the sizes are those of trained weights.
    """

    data: DataConfig
    model: VitConfig
    audio: LogMelConfig = LogMelConfig()
    has_sizes: bool = False

    @classmethod
    def from_options(cls, options: ReadOptions) -> InputFormat:
        """Return the format of trained weights."""
        model, audio = VitConfig(**options.model), LogMelConfig(**options.audio)
        return cls(data=options.data, model=model, audio=audio, has_sizes=True)

    @classmethod
    def fitted(
        cls, options: ReadOptions, sizes: dict[str, Any], audio: LogMelConfig | None = None
    ) -> InputFormat:
        """Return a format with sizes that fit the data, where the user set no others.

        Raises:
            ConfigError: The sizes do not fit together.
        """
        names = {*_IMAGE_SIZES, *_FEATURE_SIZES}
        set_sizes = {name: size for name, size in options.model.items() if name in names}
        try:
            model = VitConfig(**(sizes | set_sizes))
        except ValueError as error:
            raise ConfigError(f"model.{error}") from error
        return cls(data=options.data, model=model, audio=audio or LogMelConfig())

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes of the model that follow from the inputs, by name."""
        names = _IMAGE_SIZES if self.model.input == "image" else _FEATURE_SIZES
        return {name: getattr(self.model, name) for name in names}

    @property
    def numbers_per_token(self) -> int:
        """Number of values of a patch, or of a row of features."""
        model = self.model
        if model.input == "image":
            return model.patch_height * model.patch_width * model.channels
        return model.num_features

    @property
    def image_size(self) -> ImageSize:
        """Size and channels of images."""
        return ImageSize(self.model.height, self.model.width, self.model.channels)


class Modality(ABC):
    """One kind of input.

    Args:
        task: Name of the task that classifies it.
        unit: What is counted.
        contents: What the data holds, in words.
        model: Default settings of the model.
        data: Default settings of the data.
        suffixes: Suffixes of the files that are read; empty where the inputs are rows.
        reads_files: Whether each input is a file.
        reads_frames: Whether inputs are frames of recordings.
    """

    task: str
    unit: str
    contents: str
    model: VitConfig
    data: DataConfig
    suffixes: frozenset[str] = frozenset()
    reads_files = True
    reads_frames = False

    @abstractmethod
    def claims(self, shape: DataShape) -> bool:
        """Whether data of a shape holds such inputs."""

    @abstractmethod
    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:
        """Choose the sizes of the inputs by the data, where the user set none."""

    @abstractmethod
    def read(self, input_format: InputFormat, source: DataSource) -> Parts:
        """Read labeled inputs in a format."""

    @abstractmethod
    def read_unlabeled(self, input_format: InputFormat, source: DataSource) -> LocatedInputs:
        """Read inputs to be classified: a file, a folder of files, or the rows of a file."""

    @abstractmethod
    def describe(self, values: Sequence[NDArray], input_format: InputFormat) -> str:
        """Describe inputs, each of the shape of `LabeledInputs.values`, in a line."""

    def read_test(self, input_format: InputFormat, source: DataSource) -> LabeledInputs:
        """Read labeled inputs to test on: the test part of data that has one."""
        parts = self.read(input_format, source)
        return parts.get("test", parts["train"])


def number_rows(
    source: DataSource, data: DataConfig, *, has_labels: bool = True
) -> list[NumberRow]:
    """Read rows of numbers, with their labels or without."""
    column = data.columns[0] if data.columns else "label"
    read = read_number_rows if has_labels else read_unlabeled_rows
    return read(source, label=column, encoding=data.encoding)


def labeled_rows(path: str, rows: list[NumberRow], values: list[NDArray]) -> LabeledInputs:
    """Return images of shape ``[channels, height, width]``, or series, with the labels of rows.

    Values are float32, or float64 where they differ by too little for that.
    """
    dtype = precision_of(values)
    return LabeledInputs(
        path=path,
        values=[value.astype(dtype, copy=False) for value in values],
        labels=[row.label for row in rows],
        locations=[f"line {row.line}" for row in rows],
        num_frames=[1] * len(rows),
    )
