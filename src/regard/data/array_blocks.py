"""Many arrays that are kept for long, in a few large blocks of memory.

Where each is made between temporary arrays, such as those that scale an image, the allocator of C
keeps the holes that these leave, even between the few bytes that describe an array: four bytes for
every one of 3,000 images of 100 kB.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

_BLOCK_BYTES = 64 << 20  # above the size from which glibc asks the system for memory of its own
_ALIGNMENT = 64


class _Slice(NamedTuple):
    """Where an array is: its block, its first byte in that, its type and shape."""

    block: int
    start: int
    dtype: DTypeLike
    shape: tuple[int, ...]


class ArrayBlocks:
    """Arrays in blocks of memory, one after another.

    >>> blocks = ArrayBlocks()
    >>> blocks.append(np.arange(3.0))
    >>> blocks.arrays()
    [array([0., 1., 2.])]
    """

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.uint8]] = []
        self._slices: list[_Slice] = []
        self._num_used = 0

    def append(self, array: NDArray) -> None:
        """Copy an array, of any shape and of a type of numbers."""
        if not self._blocks or self._num_used + array.nbytes > self._blocks[-1].nbytes:
            size = max(_BLOCK_BYTES, array.nbytes)
            self._blocks.append(np.empty(size, np.uint8))  # not in memory before it is written to
            self._num_used = 0
        part = _Slice(len(self._blocks) - 1, self._num_used, array.dtype, array.shape)
        self._num_used += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._slices.append(part)
        self._view(part)[...] = array

    def arrays(self) -> list[NDArray]:
        """Return all arrays, in order: parts of the blocks, which are not copied."""
        return list(map(self._view, self._slices))

    def _view(self, part: _Slice) -> NDArray:
        """Return a part of a block as an array of its shape."""
        return np.ndarray(part.shape, part.dtype, self._blocks[part.block].data, part.start)
