"""Images, recordings and series: their files, and the sizes that fit the data."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.labeled_inputs import LabeledInputs, precision_of
from regard.data.listing import pluralize
from regard.data.readers.audio import (
    LogMelConfig,
    log_mel_config_of,
    read_log_mel,
    read_sample_rate,
)
from regard.data.readers.embedded_file import FileLike
from regard.data.readers.idx import find_idx, is_idx, read_idx, read_idx_part
from regard.data.readers.images import (
    ImageSize,
    describe_frames,
    most_common_size,
    read_image,
    read_image_size,
    scaled,
)
from regard.data.readers.labeled_folders import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    LabeledFile,
    files_within,
    labeled_files,
    official_parts,
    read_each,
)
from regard.data.readers.media_tables import (
    count_rows,
    has_media,
    media_columns,
    read_media_rows,
)
from regard.data.readers.series import NumberRow, read_number_rows, read_unlabeled_rows
from regard.data.readers.shape import DataShape
from regard.data.readers.source import DataSource
from regard.errors import ConfigError, DataError
from regard.models.vit.model import VitConfig
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions

Parts = dict[str, LabeledInputs]
"""``train``, and ``valid`` and ``test`` where the authors of the data hold some out."""
LocatedInputs = Iterator[tuple[str, NDArray]]
"""Where each input is in the data, and its values."""
_IMAGE_SIZES = ("input", "channels", "height", "width", "patch_height", "patch_width")
_FEATURE_SIZES = ("input", "num_features")
_LONGEST = 1024  # rows: ten seconds of a recording
_MOST_HEADERS = 500  # files whose sample rate is read


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


class Images(Modality):
    """Image files in folders or tables, MNIST's idx files, or rows of pixels in CSV."""

    task = "image-classification"
    unit = "images"
    contents = "images, a folder for each label"
    model = VitConfig()
    data = DataConfig()
    suffixes = IMAGE_SUFFIXES

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds images."""
        return shape.kind in ("idx", "images")

    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:
        """Choose the most frequent size, and patches of about the square root of its sides."""
        set_sizes = options.model
        if has_media(source):
            size = most_common_size(_sizes_in_table(source, options.data))
        elif not source.is_folder:
            row = _number_rows(source, options.data)[0]
            expected = ImageSize(
                set_sizes.get("height", 0), set_sizes.get("width", 0), set_sizes.get("channels", 1)
            )
            size = _row_size(row, source.path, expected)
        elif idx := find_idx(source.path):
            images, _ = read_idx_part(idx.get("train") or idx["test"])
            size = ImageSize(images.shape[1], images.shape[2], 1)
        else:
            size = most_common_size(_image_sizes(labeled_files(source, IMAGE_SUFFIXES)))
        sizes: dict[str, Any] = {"input": "image", "channels": size.channels}
        for name, pixels in (("height", size.height), ("width", size.width)):
            sizes[name], sizes[f"patch_{name}"] = fit_patch(
                pixels, set_sizes.get(f"patch_{name}"), set_sizes.get(name)
            )
        return InputFormat.fitted(options, sizes)

    def read(self, input_format: InputFormat, source: DataSource) -> Parts:
        """Read images from folders, idx files or rows of pixels."""
        path, size = source.path, input_format.image_size
        if has_media(source):
            return _labeled_rows_of_files(source, input_format.data, lambda f: read_image(f, size))
        if not source.is_folder:
            rows = _number_rows(source, input_format.data)
            images = [_image(row, path, input_format) for row in rows]
            return {"train": _labeled_rows(path, rows, images)}
        if idx := find_idx(path):
            parts = {}
            for part, files in idx.items():
                images, labels = read_idx_part(files)  # [images, height, width]
                parts[part] = LabeledInputs(
                    path=path,
                    values=[scaled(image[None], size) for image in images],
                    labels=labels,
                    locations=[f"image {number}" for number in range(1, 1 + len(images))],
                    num_frames=[1] * len(images),
                )
            return parts
        return _labeled_files(source, IMAGE_SUFFIXES, lambda p: read_image(p, size))

    def read_unlabeled(self, input_format: InputFormat, source: DataSource) -> LocatedInputs:
        """Read an image file, all of a folder, idx files, or rows of pixels.

        In a folder in MNIST's layout, the test images are read.

        Yields:
            Where each image is in the data, and its pixels, ``[channels, height, width]``.
        """
        size = input_format.image_size
        idx = find_idx(source.path) if source.is_folder else {}
        path = str((idx.get("test") or idx["train"]).images) if idx else source.path
        if is_idx(path):
            images = read_idx(path, num_axes=3)
            yield from ((f"image {n}", scaled(i[None], size)) for n, i in enumerate(images, 1))
        elif _has_files(source, IMAGE_SUFFIXES):
            num_frames: dict[str, int] = {}
            for location, file in _unlabeled_files(source, input_format.data, IMAGE_SUFFIXES):
                image = read_image(file, size)
                if image.num_frames > 1:
                    num_frames[location] = image.num_frames
                yield location, image.pixels
            for note in describe_frames(num_frames):
                warnings.warn(note, stacklevel=2)
        else:
            for row in _number_rows(source, input_format.data, has_labels=False):
                yield f"line {row.line}", _image(row, path, input_format)

    def describe(self, values: Sequence[NDArray], input_format: InputFormat) -> str:  # noqa: ARG002
        """Describe size and channels of images of shape ``[channels, height, width]``."""
        model = input_format.model
        channels = {1: "grey", 3: "colour"}.get(model.channels, f"{model.channels} channels")
        return (
            f"{model.height} x {model.width} pixels, {channels}, patches of "
            f"{model.patch_height} x {model.patch_width}"
        )


class Recordings(Modality):
    """WAV files in folders or tables, as log-mel frames."""

    task = "audio-classification"
    unit = "recordings"
    contents = "recordings, a folder for each label"
    model = VitConfig(input="features")
    data = DataConfig(max_length=_LONGEST)
    suffixes = AUDIO_SUFFIXES
    reads_frames = True

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds recordings."""
        return shape.kind == "recordings"

    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:
        """Choose the most frequent sample rate, and windows of 25 ms."""
        rate = options.audio.get("sample_rate")
        if rate is None:
            files: Sequence[FileLike] = []
            if has_media(source):
                files = _first_files(source, options.data)
            else:
                files = [file.path for file in labeled_files(source, AUDIO_SUFFIXES)]
            step = max(1, len(files) // _MOST_HEADERS)
            rates = Counter(map(read_sample_rate, files[::step]))
            rate = next((rate for rate, _ in rates.most_common() if rate), None)
        fitted = LogMelConfig() if rate is None else log_mel_config_of(rate)
        try:
            audio = msgspec.structs.replace(fitted, **options.audio)
        except ValueError as error:
            raise ConfigError(f"audio.{error}") from error
        sizes = {"input": "features", "num_features": audio.num_bands}
        return InputFormat.fitted(options, sizes, audio)

    def read(self, input_format: InputFormat, source: DataSource) -> Parts:
        """Read all files, split as the authors' own lists of held-out files say."""
        audio = input_format.audio

        def read_frames(file: FileLike) -> tuple[NDArray, int]:
            return read_log_mel(file, audio).numpy(), 1

        if has_media(source):
            return _labeled_rows_of_files(source, input_format.data, read_frames)
        parts = _labeled_files(source, AUDIO_SUFFIXES, read_frames)
        if not (lists := official_parts(source)):
            return parts
        inputs = parts.pop("train")
        part_of = {location: part for part, names in lists.items() for location in names}
        rows: dict[str, list[int]] = {"train": []}
        for row, location in enumerate(inputs.locations):
            rows.setdefault(part_of.get(location, "train"), []).append(row)
        return parts | {part: inputs.select(part_rows) for part, part_rows in rows.items()}

    def read_unlabeled(self, input_format: InputFormat, source: DataSource) -> LocatedInputs:
        """Read a WAV file, or all of a folder or of a table."""
        for location, file in _unlabeled_files(source, input_format.data, AUDIO_SUFFIXES):
            yield location, read_log_mel(file, input_format.audio).numpy()

    def describe(self, values: Sequence[NDArray], input_format: InputFormat) -> str:
        """Describe sample rate and durations of frames of shape ``[length, features]``."""
        audio = input_format.audio
        # Frame i is centred on sample i * hop_size, the first on the beginning.
        seconds = [(len(value) - 1) * audio.hop_size / audio.sample_rate for value in values]
        return (
            f"{audio.sample_rate:,} samples a second; {min(seconds):.2f} to {max(seconds):.2f} s "
            f"long, median {np.median(seconds):.2f} s"
        )


class Series(Modality):
    """Rows of numbers."""

    task = "series-classification"
    unit = "series"
    contents = "rows of numbers with a label"
    model = VitConfig(input="features", num_features=1)  # one number per step
    data = DataConfig(max_length=_LONGEST)
    reads_files = False

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds series."""
        is_row = shape.kind == "table" and shape.has_row_of_numbers
        return is_row or (
            shape.kind in ("table", "text", "records") and shape.has_numbers_beside_label
        )

    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:  # noqa: ARG002
        """Choose one number per step, where the user set no other."""
        return InputFormat.fitted(options, {"input": "features", "num_features": 1})

    def read(self, input_format: InputFormat, source: DataSource) -> Parts:
        """Read rows with their labels."""
        if source.is_folder:
            raise DataError(
                f"{source.path}: a directory, not a file.  Name one: CSV, TSV, JSONL or Parquet."
            )
        rows = _number_rows(source, input_format.data)
        steps = [_steps(row, source.path, input_format) for row in rows]
        return {"train": _labeled_rows(source.path, rows, steps)}

    def read_unlabeled(self, input_format: InputFormat, source: DataSource) -> LocatedInputs:
        """Read rows; a column of labels is ignored."""
        for row in _number_rows(source, input_format.data, has_labels=False):
            yield f"line {row.line}", _steps(row, source.path, input_format)

    def describe(self, values: Sequence[NDArray], input_format: InputFormat) -> str:
        """Describe numbers per step and lengths of series of shape ``[length, features]``."""
        lengths = [len(value) for value in values]
        number = input_format.model.num_features
        return (
            f"{pluralize(number, 'number')} a step; {min(lengths):,} to "
            f"{max(lengths):,} steps long, median {np.median(lengths):,.0f}"
        )


MODALITIES: tuple[Modality, ...] = (Images(), Recordings(), Series())


def modality_of(task: str) -> Modality:
    """Return the modality of a task."""
    return next(modality for modality in MODALITIES if modality.task == task)


def fit_patch(size: int, patch: int | None, set_size: int | None) -> tuple[int, int]:
    """Return the height or width of images and of patches, in pixels.

    The patch is a power of two near the square root of the size, and the size is rounded to a
    multiple of it.

    Args:
        size: Size of the images in the data.
        patch: Size of patches that the user set, or None.
        set_size: Size of images that the user set, or None; it is not changed.

    >>> fit_patch(28, None, None), fit_patch(8, None, None), fit_patch(30, None, None)
    ((28, 4), (8, 2), (32, 4))
    >>> fit_patch(28, 7, None), fit_patch(28, None, 30), fit_patch(224, None, None)
    ((28, 7), (30, 3), (224, 16))
    """
    if patch is None:
        patch = 1 << int(math.log2(set_size or size) / 2 + 0.4)
        if set_size is not None:
            patch = max(part for part in range(1, patch + 1) if set_size % part == 0)
    return set_size or max(1, (size + patch // 2) // patch) * patch, patch


def _number_rows(
    source: DataSource, data: DataConfig, *, has_labels: bool = True
) -> list[NumberRow]:
    """Read rows of numbers, with their labels or without."""
    column = data.columns[0] if data.columns else "label"
    read = read_number_rows if has_labels else read_unlabeled_rows
    return read(source, label=column, encoding=data.encoding)


def _row_size(
    row: NumberRow, path: str, expected: ImageSize, *, is_fixed: bool = False
) -> ImageSize:
    """Return the size of an image in a row of pixels: the expected one, else a square.

    Args:
        row: The row.
        path: The file.
        expected: The size that is set, or that of a trained model.
        is_fixed: Whether it is that of a trained model.

    Raises:
        DataError: The row fits neither.
    """
    num_numbers, channels = len(row.numbers), expected.channels
    if expected.height * expected.width * channels == num_numbers:
        return expected
    width = math.isqrt(num_numbers // channels)
    if width * width * channels != num_numbers:
        remedy = "Set its size: `model.height=H` `model.width=W` `model.channels=C`"
        if is_fixed:
            most = expected.height * expected.width * channels
            remedy = (
                f"The model reads images of {expected.height} x {expected.width} pixels, "
                f"{most:,} numbers a row."
            )
        raise DataError(
            f"{path}:{row.line}: {num_numbers:,} numbers are not a square image with "
            f"{pluralize(channels, 'channel')}.  {remedy}"
        )
    return ImageSize(width, width, channels)


def _image(row: NumberRow, path: str, input_format: InputFormat) -> NDArray[np.float32]:
    """Return a row of pixels as an image of a size, ``[channels, height, width]``.

    Pixels are read row by row, the channels of each pixel together.
    """
    size = input_format.image_size
    height, width, channels = _row_size(row, path, size, is_fixed=input_format.has_sizes)
    pixels = row.numbers.astype(np.float32).reshape(height, width, channels)
    return scaled(pixels.transpose(2, 0, 1), size)


def _steps(row: NumberRow, path: str, input_format: InputFormat) -> NDArray[np.float64]:
    """Return a row of numbers as steps, ``[length, features]``."""
    num_features = input_format.model.num_features
    if len(row.numbers) % num_features:
        remedy = "Fill the row up" + ("." if input_format.has_sizes else ", or set another.")
        raise DataError(
            f"{path}:{row.line}: {len(row.numbers):,} numbers are not a whole number of steps of "
            f"{num_features:,} (model.num_features).  {remedy}"
        )
    return row.numbers.reshape(-1, num_features)


def _labeled_rows(path: str, rows: list[NumberRow], values: list[NDArray]) -> LabeledInputs:
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


def _image_sizes(files: Sequence[LabeledFile]) -> list[ImageSize]:
    """Return the sizes of the images that can be read; the others are named when all are read.

    Raises:
        DataError: None can be read.
    """
    sizes = []
    for file in files:
        with suppress(DataError):
            sizes.append(read_image_size(file.path))
    paths = [file.path for file in files]
    return sizes or read_each(paths, read_image_size, len(paths))


def _labeled_files(
    source: DataSource, suffixes: frozenset[str], read: Callable[[FileLike], tuple[NDArray, int]]
) -> Parts:
    """Read the files of a folder that has one folder per label, in each part if it has parts.

    Args:
        source: The folder.
        suffixes: Suffixes of the files that are read.
        read: Returns the values of a file, and its number of frames, of which they are the first.

    Returns:
        Values and labels by part: ``train``, ``valid``, ``test``; those without files are left out.
    """
    files = labeled_files(source, suffixes)
    inputs = read_each([file.path for file in files], read, len(files))
    parts: Parts = {}
    for part in ("train", "valid", "test"):
        rows = [row for row, file in enumerate(files) if file.part == part]
        if rows:
            root = files[rows[0]].root
            parts[part] = LabeledInputs(
                path=str(root) if root != Path(source.path) else source.path,
                values=[inputs[row][0] for row in rows],
                labels=[files[row].label for row in rows],
                locations=[files[row].path.relative_to(root).as_posix() for row in rows],
                num_frames=[inputs[row][1] for row in rows],
            )
    return parts


def _sizes_in_table(source: DataSource, data: DataConfig) -> list[ImageSize]:
    """Return the sizes of the images of a table; those that cannot be read are named later.

    Raises:
        DataError: None can be read.
    """
    sizes = []
    for row in read_media_rows(source, media_columns(source, data.columns)):
        with suppress(DataError):
            sizes.append(read_image_size(row.file))
    files = [] if sizes else _first_files(source, data)
    return sizes or read_each(files, read_image_size, len(files))


def _first_files(source: DataSource, data: DataConfig) -> list[FileLike]:
    """Return the files of the first rows of a table."""
    rows = read_media_rows(source, media_columns(source, data.columns))
    return [row.file for row in islice(rows, _MOST_HEADERS)]


def _labeled_rows_of_files(
    source: DataSource, data: DataConfig, read: Callable[[FileLike], tuple[NDArray, int]]
) -> Parts:
    """Read the images or recordings of a table; rows without a label are left out.

    Args:
        source: The table.
        data: Names of the columns.
        read: Returns the values of a file, and its number of frames, of which they are the first.

    Returns:
        Values and labels as ``train``: a source has one part of a folder of tables.

    Raises:
        DataError: No row has a label, or files cannot be read.
    """
    labels: list[str] = []
    locations: list[str] = []

    def labeled_files_of_rows() -> Iterator[FileLike]:
        for row in read_media_rows(source, media_columns(source, data.columns)):
            if row.label:
                labels.append(row.label)
                locations.append(row.location)
                yield row.file

    inputs = read_each(labeled_files_of_rows(), read, count_rows(source))
    if not inputs:
        raise DataError(f"{source.path}: no row has a label.")
    values, num_frames = map(list, zip(*inputs, strict=True))
    part = LabeledInputs(
        path=source.path,
        values=values,
        labels=labels,
        locations=locations,
        num_frames=num_frames,
    )
    return {"train": part}


def _has_files(source: DataSource, suffixes: frozenset[str]) -> bool:
    """Return whether a source is a folder or a table of files, or one file with a suffix."""
    is_file = Path(source.path).suffix.lower() in suffixes
    return source.is_folder or has_media(source) or is_file


def _unlabeled_files(
    source: DataSource, data: DataConfig, suffixes: frozenset[str]
) -> Iterator[tuple[str, FileLike]]:
    """Yield the files of a table or a folder, or a single file itself, with their locations."""
    if has_media(source):
        columns = media_columns(source, data.columns, has_labels=False)
        yield from ((row.location, row.file) for row in read_media_rows(source, columns))
        return
    files = files_within(source, suffixes) if source.is_folder else [source.path]
    yield from zip(map(str, files), files, strict=True)
