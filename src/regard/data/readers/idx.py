"""Images in MNIST's idx layout (LeCun, Cortes & Burges 1998), plain or gzipped, as downloaded.

    train-images-idx3-ubyte.gz   train-labels-idx1-ubyte.gz
    t10k-images-idx3-ubyte.gz    t10k-labels-idx1-ubyte.gz

A file is two zero bytes, the type of its numbers (8: unsigned bytes), the number of axes, the size
of each axis as a big-endian 32-bit number, then the numbers. Cost: one pass.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.data.readers.source import open_source
from regard.errors import DataError

_UNSIGNED_BYTES = 8
_PARTS = {"train": ("train",), "test": ("t10k", "test")}


class IdxPart(NamedTuple):
    """The two files of a part of a collection: images and their labels."""

    images: Path
    labels: Path


def find_idx(folder: str | Path) -> dict[str, IdxPart]:
    """Return those of the parts ``train`` and ``test`` of a folder that have both files."""
    paths = sorted(filter(Path.is_file, Path(folder).iterdir()))
    parts = {}
    for part, words in _PARTS.items():
        images = _find_file(paths, words, "images", "idx3-ubyte")
        labels = _find_file(paths, words, "labels", "idx1-ubyte")
        if images is not None and labels is not None:
            parts[part] = IdxPart(images, labels)
    return parts


def is_idx(path: str | Path) -> bool:
    """Return whether a file has the name of a file of images or labels in this layout.

    >>> is_idx("t10k-images-idx3-ubyte.gz"), is_idx("photo.png")
    (True, False)
    """
    name = Path(path).name
    return "-ubyte" in name and ("idx1" in name or "idx3" in name)


def read_idx_part(part: IdxPart) -> tuple[NDArray[np.uint8], list[str]]:
    """Return images, ``[images, height, width]``, and their labels, digits as text.

    Raises:
        DataError: A file is damaged, or their numbers of rows differ.
    """
    images, labels = read_idx(part.images, num_axes=3), read_idx(part.labels, num_axes=1)
    if len(images) != len(labels):
        raise DataError(
            f"{part.labels}: {len(labels):,} labels, but {part.images} has {len(images):,} images."
            "  Copy both again."
        )
    return images, [str(label) for label in labels.tolist()]


def read_idx(path: str | Path, *, num_axes: int) -> NDArray[np.uint8]:
    """Return the unsigned bytes of a file, which may be packed by gzip, in the shape it states.

    Raises:
        DataError: It is missing or cut short, or does not have that number of axes.
    """
    content = open_source(path).content
    start = 4 + 4 * num_axes
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTES, num_axes)) or len(content) < start:
        raise DataError(
            f"{path}: no idx file of unsigned bytes with {num_axes} axes "
            f"(it begins with {content[:4].hex(' ') or 'nothing'}).  Copy it again."
        )
    shape = struct.unpack_from(f">{num_axes}I", content, 4)
    size = math.prod(shape)
    if not size:
        raise DataError(f"{path}: its header says {' x '.join(map(str, shape))}: it is empty.")
    if len(content) < start + size:
        raise DataError(
            f"{path}: {len(content) - start:,} numbers, its header says {size:,}.  "
            "File cut short?  Copy it again."
        )
    return np.frombuffer(content, np.uint8, size, start).reshape(shape)


def _find_file(
    paths: Sequence[Path], words: Sequence[str], contents: str, layout: str
) -> Path | None:
    """Return the first path whose name holds the layout, and a word with the contents."""
    for path in paths:
        if layout in path.name and any(f"{word}-{contents}" in path.name for word in words):
            return path
    return None
