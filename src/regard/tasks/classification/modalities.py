"""Images, recordings and series: what each is read from, and the sizes that the data has."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.labeled_inputs import LabeledInputs
from regard.data.readers.audio import (
    LogMelConfig,
    log_mel_config_of,
    read_log_mel,
    read_sample_rate,
)
from regard.data.readers.idx import find_idx, is_idx, read_idx, read_idx_part
from regard.data.readers.images import (
    ImageSize,
    most_common_size,
    read_image,
    read_image_size,
    scaled,
)
from regard.data.readers.labeled_folders import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    files_within,
    labeled_files,
    official_parts,
    read_each,
)
from regard.data.readers.series import NumberRow, read_number_rows, read_unlabeled_rows
from regard.data.readers.shape import DataShape
from regard.data.readers.source import DataSource
from regard.errors import ConfigError, DataError
from regard.models.vit.model import VitConfig
from regard.setup.base_task import ReadOptions
from regard.setup.config import DataConfig, RunConfig

Parts = dict[str, LabeledInputs]
"""``train``, and ``valid`` and ``test`` where the makers of the data hold some out."""
Placed = Iterator[tuple[str, NDArray]]
"""Inputs with where each stands."""
_LONGEST = 1024  # rows: ten seconds of a recording
_MOST_HEADERS = 500  # files whose sample rate is looked at


class InputFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How inputs are read: the sizes that they are brought to.

    Args:
        data: Columns, encoding and most rows.
        model: A configuration with the sizes of the inputs.
        audio: How recordings become frames.
        chosen: Sizes that the user set, by name.
        has_sizes: Whether the sizes are those of trained weights.
    """

    data: DataConfig
    model: VitConfig
    audio: LogMelConfig = LogMelConfig()
    chosen: frozenset[str] = frozenset()
    has_sizes: bool = False

    @classmethod
    def of(cls, config: RunConfig) -> InputFormat:
        """Return the format that a trained model reads."""
        assert isinstance(config.model, VitConfig)
        return cls(data=config.data, model=config.model, audio=config.audio, has_sizes=True)

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes of the model that follow from the inputs, by name."""
        names = ("input", "num_features")
        if self.model.input == "image":
            names = ("input", "channels", "height", "width", "patch_height", "patch_width")
        return {name: getattr(self.model, name) for name in names}

    @property
    def numbers_of_token(self) -> int:
        """Numbers of a patch, or of a row of features."""
        model = self.model
        if model.input == "image":
            return model.patch_height * model.patch_width * model.channels
        return model.num_features

    @property
    def label_column(self) -> str:
        """Name of the column of labels."""
        return self.data.columns[0] if self.data.columns else "label"

    @property
    def image_size(self) -> ImageSize:
        """Size and channels of images."""
        return ImageSize(self.model.height, self.model.width, self.model.channels)


class Modality(ABC):
    """One kind of input.

    Args:
        task: Name of the task that classifies it.
        unit: What is counted.
        reads_files: Whether an input is a file of its own.
        reads_frames: Whether inputs are frames of recordings.
    """

    task: str
    unit: str
    reads_files = True
    reads_frames = False

    @abstractmethod
    def defaults(self) -> tuple[VitConfig, DataConfig]:
        """Return the settings of model and data that this kind starts from."""

    @abstractmethod
    def claims(self, shape: DataShape) -> bool:
        """Whether data of a shape holds such inputs."""

    @abstractmethod
    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:
        """Choose the sizes of the inputs by the data, where nobody set them."""

    @abstractmethod
    def read(self, inputs: InputFormat, source: DataSource) -> Parts:
        """Read labeled inputs in a format."""

    @abstractmethod
    def read_unlabeled(self, inputs: InputFormat, source: DataSource) -> Placed:
        """Read inputs to be classified: a file, a folder of files, or rows of a file."""

    @abstractmethod
    def describe(self, values: Sequence[NDArray], inputs: InputFormat) -> str:
        """Describe sizes or lengths in a line."""


class Images(Modality):
    """Image files in folders, MNIST's idx files, or rows of pixels in CSV."""

    task = "image-classification"
    unit = "images"

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds images."""
        return shape.kind in ("idx", "images")

    def defaults(self) -> tuple[VitConfig, DataConfig]:
        """Images."""
        return VitConfig(), DataConfig()

    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:
        """Take the most frequent size, and patches whose side is near its root."""
        if options.has_sizes:
            return _known_format(options)
        chosen = options.model
        form = self._form(options, source)
        sizes: dict[str, Any] = {"input": "image", "channels": form.channels}
        for name, size in (("height", form.height), ("width", form.width)):
            sizes[name], sizes[f"patch_{name}"] = fit_patch(
                size, chosen.get(f"patch_{name}"), chosen.get(name)
            )
        return _fitted_format(options, sizes)

    def read(self, inputs: InputFormat, source: DataSource) -> Parts:
        """Read images of any of the three sources."""
        form = inputs.image_size
        if not source.is_folder:
            rows = read_number_rows(
                source, label=inputs.label_column, encoding=inputs.data.encoding
            )
            values = [scaled(_image_of(row, source.path, inputs), form) for row in rows]
            return {"train": _of_rows(source.path, rows, values)}
        if idx := find_idx(source.path):
            return {
                part: _of_idx(source.path, *read_idx_part(files), form)
                for part, files in idx.items()
            }
        files = labeled_files(source, IMAGE_SUFFIXES)
        return {
            "train": LabeledInputs(
                path=source.path,
                values=read_each([file.path for file in files], lambda p: read_image(p, form)),
                labels=[file.label for file in files],
                locations=[file.path.relative_to(source.path).as_posix() for file in files],
            )
        }

    def read_unlabeled(self, inputs: InputFormat, source: DataSource) -> Placed:
        """Read an image file, all of a folder, idx files, or rows of pixels.

        Of a folder in MNIST's layout the images that were not trained on.
        """
        form = inputs.image_size
        idx = find_idx(source.path) if source.is_folder else {}
        path = str((idx.get("test") or idx["train"]).images) if idx else source.path
        if is_idx(path):
            images = read_idx(path, num_axes=3)
            yield from ((f"image {n}", scaled(i[None], form)) for n, i in enumerate(images, 1))
            return
        for file in _input_files(source, IMAGE_SUFFIXES):
            if Path(file).suffix.lower() in IMAGE_SUFFIXES:
                yield file, read_image(file, form)
                continue
            rows = read_unlabeled_rows(
                source, label=inputs.label_column, encoding=inputs.data.encoding
            )
            for row in rows:
                yield f"line {row.line}", scaled(_image_of(row, file, inputs), form)

    def describe(self, values: Sequence[NDArray], inputs: InputFormat) -> str:  # noqa: ARG002
        """Describe size and channels."""
        model = inputs.model
        colour = "colour" if model.channels == 3 else "grey" if model.channels == 1 else "channels"
        shown = f"{model.channels} {colour}" if colour == "channels" else colour
        return (
            f"{model.height} x {model.width} pixels, {shown}, patches of "
            f"{model.patch_height} x {model.patch_width}"
        )

    def _form(self, options: ReadOptions, source: DataSource) -> ImageSize:
        """Return the size that most images have."""
        if not source.is_folder:
            inputs = _fitted_format(options, {})
            rows = read_number_rows(
                source, label=inputs.label_column, encoding=inputs.data.encoding
            )
            return ImageSize(*_sides(rows[0], source.path, inputs))
        if idx := find_idx(source.path):
            images, _ = read_idx_part(idx.get("train") or idx["test"])
            return ImageSize(images.shape[1], images.shape[2], 1)
        return most_common_size(
            read_image_size(file.path) for file in labeled_files(source, IMAGE_SUFFIXES)
        )


class Recordings(Modality):
    """WAV files in folders, as log-mel frames."""

    task = "audio-classification"
    unit = "recordings"
    reads_frames = True

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds recordings."""
        return shape.kind == "recordings"

    def defaults(self) -> tuple[VitConfig, DataConfig]:
        """Frames, some ten seconds at most."""
        return VitConfig(input="features"), DataConfig(max_length=_LONGEST)

    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:
        """Take the most frequent sample rate, and windows of 25 ms."""
        if options.has_sizes:
            return _known_format(options)
        rate = options.audio.get("sample_rate")
        if rate is None:
            files = labeled_files(source, AUDIO_SUFFIXES)
            step = max(1, len(files) // _MOST_HEADERS)
            rates = Counter(read_sample_rate(file.path) for file in files[::step])
            rate = next((rate for rate, _ in rates.most_common() if rate), None)
        fitted = LogMelConfig() if rate is None else log_mel_config_of(rate)
        try:
            audio = msgspec.structs.replace(fitted, **options.audio)
        except ValueError as error:
            raise ConfigError(f"audio.{error}") from error
        sizes = {"input": "features", "num_features": audio.num_bands}
        return _fitted_format(options, sizes, audio)

    def read(self, inputs: InputFormat, source: DataSource) -> Parts:
        """Read all files; makers' own lists of validation and test files are heeded."""
        files = labeled_files(source, AUDIO_SUFFIXES)
        whole = LabeledInputs(
            path=source.path,
            values=read_each([file.path for file in files], lambda p: self._frames(p, inputs)),
            labels=[file.label for file in files],
            locations=[file.path.relative_to(source.path).as_posix() for file in files],
        )
        parts = {}
        held_out: set[str] = set()
        for part, names in official_parts(source).items():
            rows = [row for row, place in enumerate(whole.locations) if place in names]
            if rows:
                parts[part] = whole.select(rows)
                held_out |= names
        kept = [row for row, place in enumerate(whole.locations) if place not in held_out]
        return parts | {"train": whole.select(kept)}

    def read_unlabeled(self, inputs: InputFormat, source: DataSource) -> Placed:
        """Read a WAV file, or all of a folder."""
        for file in _input_files(source, AUDIO_SUFFIXES):
            yield file, self._frames(Path(file), inputs)

    def describe(self, values: Sequence[NDArray], inputs: InputFormat) -> str:
        """Describe sample rate and durations."""
        audio = inputs.audio
        shortest, median, longest = (
            frames * audio.hop_size / audio.sample_rate for frames in _quantiles(values)
        )
        return (
            f"{audio.sample_rate:,} samples a second; {shortest:.2f} to {longest:.2f} s long, "
            f"median {median:.2f} s"
        )

    def _frames(self, path: Path, inputs: InputFormat) -> NDArray[np.float32]:
        return read_log_mel(path, inputs.audio).numpy()


class Series(Modality):
    """Rows of numbers."""

    task = "series-classification"
    unit = "series"
    reads_files = False

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds series."""
        is_row = shape.kind == "table" and shape.has_row_of_numbers
        return is_row or (shape.kind in ("table", "text") and shape.has_numbers_beside_label)

    def defaults(self) -> tuple[VitConfig, DataConfig]:
        """One number a step."""
        return VitConfig(input="features", num_features=1), DataConfig(max_length=_LONGEST)

    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:  # noqa: ARG002
        """Take one number a step, or as many as were set."""
        if options.has_sizes:
            return _known_format(options)
        return _fitted_format(options, {"input": "features", "num_features": 1})

    def read(self, inputs: InputFormat, source: DataSource) -> Parts:
        """Read rows with their labels."""
        _require_file(source)
        rows = read_number_rows(source, label=inputs.label_column, encoding=inputs.data.encoding)
        return {
            "train": _of_rows(
                source.path, rows, [_steps_of(row, source.path, inputs) for row in rows]
            )
        }

    def read_unlabeled(self, inputs: InputFormat, source: DataSource) -> Placed:
        """Read rows; a column of labels is passed over."""
        rows = read_unlabeled_rows(source, label=inputs.label_column, encoding=inputs.data.encoding)
        for row in rows:
            yield f"line {row.line}", _steps_of(row, source.path, inputs)

    def describe(self, values: Sequence[NDArray], inputs: InputFormat) -> str:
        """Describe numbers a step, and lengths."""
        shortest, median, longest = _quantiles(values)
        number = inputs.model.num_features
        return (
            f"{number:,} number{'' if number == 1 else 's'} a step; {shortest:,.0f} to "
            f"{longest:,.0f} steps long, median {median:,.0f}"
        )


MODALITIES: tuple[Modality, ...] = (Images(), Recordings(), Series())


def modality_of(task: str) -> Modality:
    """Return what a task reads."""
    return next(modality for modality in MODALITIES if modality.task == task)


def fit_patch(size: int, patch: int | None, given: int | None) -> tuple[int, int]:
    """Choose the side of images and of patches, in pixels.

    The patch is the power of two that is about the root of the side, the side is rounded to a
    multiple of it.

    Args:
        size: That the images have.
        patch: That was chosen, if any.
        given: Side that was chosen, if any; it stays.

    Returns:
        Side and patch.

    >>> fit_patch(28, None, None), fit_patch(8, None, None), fit_patch(30, None, None)
    ((28, 4), (8, 2), (32, 4))
    >>> fit_patch(28, 7, None), fit_patch(28, None, 30), fit_patch(224, None, None)
    ((28, 7), (30, 3), (224, 16))
    """
    side = size if given is None else given
    if patch is None:
        patch = 1 << int(math.log2(side) / 2 + 0.4)
        if given is not None:
            patch = max(part for part in range(1, patch + 1) if side % part == 0)
    return (max(1, (side + patch // 2) // patch) * patch if given is None else side), patch


def _known_format(options: ReadOptions) -> InputFormat:
    """Return the format of trained weights."""
    return InputFormat(
        data=options.data,
        model=VitConfig(**options.model),
        audio=LogMelConfig(**options.audio),
        has_sizes=True,
    )


def _fitted_format(
    options: ReadOptions,
    sizes: dict[str, Any],
    audio: LogMelConfig = LogMelConfig(),  # noqa: B008 - immutable
) -> InputFormat:
    """Return a format with sizes that follow from the data, over which go those that are set."""
    names = ("height", "width", "patch_height", "patch_width", "channels", "num_features", "input")
    chosen = {name: options.model[name] for name in names if name in options.model}
    if not sizes:  # of images that are yet to be looked at: any patch fits
        chosen |= {"patch_height": 1, "patch_width": 1}
    try:
        model = VitConfig(**(sizes | chosen))
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error
    return InputFormat(data=options.data, model=model, audio=audio, chosen=frozenset(options.model))


def _sides(row: NumberRow, path: str, inputs: InputFormat) -> tuple[int, int, int]:
    """Return height, width and channels of a row of pixels: those that are known, else a square."""
    model, chosen, count = inputs.model, inputs.chosen, len(row.numbers)
    channels = model.channels if inputs.has_sizes or "channels" in chosen else 1
    is_known = inputs.has_sizes or {"height", "width"} <= chosen
    if is_known and model.height * model.width * channels == count:
        return model.height, model.width, channels
    side = math.isqrt(count // channels)
    if side * side * channels != count:
        raise DataError(
            f"{path}:{row.line}: {count:,} numbers are no square image with {channels} "
            f"channel{'' if channels == 1 else 's'}.  Set its size: "
            "`model.height=H` `model.width=W` `model.channels=C`"
        )
    return side, side, channels


def _image_of(row: NumberRow, path: str, inputs: InputFormat) -> NDArray[np.float32]:
    """Lay a row of pixels, row by row, channels innermost, out as ``[channels, height, width]``."""
    height, width, channels = _sides(row, path, inputs)
    return row.numbers.reshape(height, width, channels).transpose(2, 0, 1)


def _steps_of(row: NumberRow, path: str, inputs: InputFormat) -> NDArray[np.float32]:
    number = inputs.model.num_features
    if len(row.numbers) % number:
        raise DataError(
            f"{path}:{row.line}: {len(row.numbers):,} numbers are no whole number of steps of "
            f"{number:,} (model.num_features).  Fill the row up, or set another."
        )
    return row.numbers.reshape(-1, number)


def _of_rows(path: str, rows: list[NumberRow], values: list[NDArray]) -> LabeledInputs:
    return LabeledInputs(
        path=path,
        values=values,
        labels=[row.label for row in rows],
        locations=[f"line {row.line}" for row in rows],
    )


def _of_idx(
    path: str, images: NDArray[np.uint8], labels: list[str], form: ImageSize
) -> LabeledInputs:
    return LabeledInputs(
        path=path,
        values=[scaled(image[None], form) for image in images],
        labels=labels,
        locations=[f"image {number}" for number in range(1, 1 + len(images))],
    )


def _input_files(source: DataSource, suffixes: frozenset[str]) -> list[str]:
    if source.is_folder:
        return [str(file) for file in files_within(source, suffixes)]
    return [source.path]


def _require_file(source: DataSource) -> None:
    if source.is_folder:
        raise DataError(f"{source.path}: a directory, not a file.  Name one file: CSV or TSV.")


def _quantiles(values: Sequence[NDArray]) -> tuple[float, float, float]:
    lengths = np.array([len(value) for value in values])
    return float(lengths.min()), float(np.median(lengths)), float(lengths.max())
