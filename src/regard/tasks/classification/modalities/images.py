"""Images: files in folders or tables, MNIST's idx files, or rows of pixels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard.data.labeled_inputs import LabeledInputs
from regard.data.listing import pluralize
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
    IMAGE_SUFFIXES,
    LabeledFile,
    labeled_files,
    read_each,
)
from regard.data.readers.media_tables import (
    count_rows,
    has_media,
    media_columns,
    read_media_rows,
)
from regard.data.readers.series import NumberRow
from regard.data.readers.shape import DataShape
from regard.data.readers.source import DataSource
from regard.errors import DataError
from regard.models.vit.model import VitConfig
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions
from regard.tasks.classification.modalities.base import (
    InputFormat,
    LocatedInputs,
    Modality,
    Parts,
    labeled_rows,
    number_rows,
)
from regard.tasks.classification.modalities.files import (
    MOST_HEADERS,
    first_files,
    has_files,
    read_labeled_files,
    read_labeled_rows,
    unlabeled_files,
)


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
            row = number_rows(source, options.data)[0]
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
            return read_labeled_rows(source, input_format.data, lambda f: read_image(f, size))
        if not source.is_folder:
            rows = number_rows(source, input_format.data)
            images = [_image(row, path, input_format) for row in rows]
            return {"train": labeled_rows(path, rows, images)}
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
        return read_labeled_files(source, IMAGE_SUFFIXES, lambda p: read_image(p, size))

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
        elif has_files(source, IMAGE_SUFFIXES):
            num_frames: dict[str, int] = {}
            for location, file in unlabeled_files(source, input_format.data, IMAGE_SUFFIXES):
                image = read_image(file, size)
                if image.num_frames > 1:
                    num_frames[location] = image.num_frames
                yield location, image.pixels
            for note in describe_frames(num_frames):
                warnings.warn(note, stacklevel=2)
        else:
            for row in number_rows(source, input_format.data, has_labels=False):
                yield f"line {row.line}", _image(row, path, input_format)

    def describe(self, values: Sequence[NDArray], input_format: InputFormat) -> str:  # noqa: ARG002
        """Describe size and channels of images of shape ``[channels, height, width]``."""
        model = input_format.model
        channels = {1: "grey", 3: "colour"}.get(model.channels, f"{model.channels} channels")
        return (
            f"{model.height} x {model.width} pixels, {channels}, patches of "
            f"{model.patch_height} x {model.patch_width}"
        )


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


def _sizes_in_table(source: DataSource, data: DataConfig) -> list[ImageSize]:
    """Return the sizes of the images of a table; those that cannot be read are named later.

    Raises:
        DataError: None can be read, or none has a label.
    """
    sizes = []
    for row in read_media_rows(source, media_columns(source, data.columns)):
        with suppress(DataError):
            sizes.append(read_image_size(row.file))
    num_files = min(MOST_HEADERS, count_rows(source))
    sizes = sizes or read_each(first_files(source, data), read_image_size, num_files)
    if not sizes:
        raise DataError(f"{source.path}: no row has a label.")
    return sizes
