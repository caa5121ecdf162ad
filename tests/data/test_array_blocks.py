"""Arrays that lie in blocks of memory are what was copied there."""

import numpy as np

from regard.data import array_blocks
from regard.data.array_blocks import ArrayBlocks


def test_arrays_of_any_type_and_size_come_back_in_order(monkeypatch):
    monkeypatch.setattr(array_blocks, "_BLOCK_BYTES", 256)
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 256, (3, 5, 7), np.uint8),
        rng.standard_normal((2, 4)).astype(np.float32),
        np.empty((0, 4), np.float32),
        rng.standard_normal((20, 9)),  # more than a block
        rng.standard_normal((3, 3))[:, ::2],  # not contiguous
    ]
    blocks = ArrayBlocks()
    for array in arrays:
        blocks.append(array)
    copies = blocks.arrays()
    assert [copy.dtype for copy in copies] == [array.dtype for array in arrays]
    for copy, array in zip(copies, arrays, strict=True):
        np.testing.assert_array_equal(copy, array)
    assert copies[0].base is copies[1].base is copies[2].base is not copies[3].base


def test_what_is_copied_may_change_afterwards():
    array, blocks = np.arange(4), ArrayBlocks()
    blocks.append(array)
    array[:] = 0
    assert blocks.arrays()[0].tolist() == [0, 1, 2, 3]
