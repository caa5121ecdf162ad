"""Images in MNIST's idx layout (LeCun, Cortes & Burges 1998), plain or gzipped, as downloaded.

    train-images-idx3-ubyte.gz   train-labels-idx1-ubyte.gz
    t10k-images-idx3-ubyte.gz    t10k-labels-idx1-ubyte.gz

A file is two zero bytes, the type of its numbers (8: unsigned bytes), the number of axes, the size
of each as a big-endian 32-bit number, then the numbers. Cost: one pass.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.errors import DataError

_UNSIGNED_BYTES = 8
_BYTES_A_READ = 1 << 20
_PARTS = {"train": ("train",), "test": ("t10k", "test")}


class IdxPart(NamedTuple):
    """The two files of a part of a collection.

    Args:
        images: Of ``[images, height, width]``.
        labels: Of ``[images]``.
    """

    images: Path
    labels: Path


def find_idx(folder: str | Path) -> dict[str, IdxPart]:
    """Find the parts of a folder in MNIST's layout.

    Returns:
        ``train`` and ``test``, where there are files of theirs; empty for other folders.
    """
    names = sorted(path for path in Path(folder).iterdir() if path.is_file())
    found = {}
    for part, words in _PARTS.items():
        images = _named(names, [f"{word}-images" for word in words], "idx3-ubyte")
        labels = _named(names, [f"{word}-labels" for word in words], "idx1-ubyte")
        if images is not None and labels is not None:
            found[part] = IdxPart(images, labels)
    return found


def is_idx(path: str | Path) -> bool:
    """Tell whether a file is named as one of images or labels in this layout.

    >>> is_idx("t10k-images-idx3-ubyte.gz"), is_idx("photo.png")
    (True, False)
    """
    name = Path(path).name
    return "-ubyte" in name and ("idx1" in name or "idx3" in name)


def read_idx_part(part: IdxPart) -> tuple[NDArray[np.uint8], list[str]]:
    """Read images and labels.

    Returns:
        ``[images, height, width]``, and the labels, digits as text.

    Raises:
        DataError: A file is damaged, or they do not go together.
    """
    images, labels = read_idx(part.images, num_axes=3), read_idx(part.labels, num_axes=1)
    if len(images) != len(labels):
        raise DataError(
            f"{part.labels}: {len(labels):,} labels, but {part.images} has {len(images):,} images."
            "  Copy both anew."
        )
    return images, [str(label) for label in labels.tolist()]


def read_idx(path: str | Path, *, num_axes: int) -> NDArray[np.uint8]:
    """Read a file of unsigned bytes.

    Args:
        path: The file; one that ends in ``.gz`` is decompressed.
        num_axes: That it must have.

    Returns:
        Its numbers in its shape.

    Raises:
        DataError: It is missing, of another form, or cut short.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else Path.open
    try:
        with opener(path, "rb") as stream:
            head = stream.read(4)
            sizes = stream.read(4 * num_axes)
            if head != bytes((0, 0, _UNSIGNED_BYTES, num_axes)) or len(sizes) != 4 * num_axes:
                raise DataError(
                    f"{path}: no idx file of unsigned bytes with {num_axes} axes "
                    f"(it begins with {head.hex(' ') or 'nothing'}).  Copy it anew."
                )
            shape = struct.unpack(f">{num_axes}I", sizes)
            content = _read_up_to(stream, math.prod(shape))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}).  Copy it anew.") from error
    if len(content) != math.prod(shape):
        raise DataError(
            f"{path}: {len(content):,} numbers, its header says {math.prod(shape):,}.  "
            "File cut short?  Copy it anew."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_up_to(stream: BufferedIOBase, size: int) -> bytes:
    """Read at most so many bytes, in pieces: a header that lies must not claim memory."""
    pieces = []
    while size > 0 and (piece := stream.read(min(size, _BYTES_A_READ))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _named(paths: Sequence[Path], words: Sequence[str], form: str) -> Path | None:
    """Return the first path whose name holds one of the words, and the form."""
    return next((p for p in paths if form in p.name and any(w in p.name for w in words)), None)
