"""Tables of the blocks that a kernel for a GPU reads: which are touched, which are whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.attention import (
    Blocks,
    Causal,
    Full,
    Global,
    Local,
    Strided,
    allowed_matrix,
)
from regard.attention.backends.flex.block_mask import MaskSizes, block_tables

PATTERNS = {
    "full": Full(),
    "causal": Causal(),
    "band": Local(20, 33),
    "strided": Strided(3),
    "causal stride": Strided(2) & Causal(),
    "union": (Local(2, 0) | Global((0,)) | Strided(40)) & Causal(),
    "blocks": Blocks.random(6, 6, 30, per_row=2, seed=1) | Local(1, 1),
    "nothing": Local(1, 1) & Global(()),
}


@given(
    pattern=st.sampled_from(list(PATTERNS)),
    queries=st.integers(1, 700),
    keys=st.integers(1, 700),
    offset=st.sampled_from([0, 1, 127, 128, 300]),
)
def test_tables_of_blocks_hold_the_pairs_of_a_pattern(pattern, queries, keys, offset):
    sizes = MaskSizes(queries, keys, offset)
    touched, whole = block_tables(PATTERNS[pattern].terms(), sizes)
    allowed = allowed_matrix(PATTERNS[pattern], queries, keys, query_offset=offset).numpy()
    for row, column in np.ndindex(touched.shape):
        rows, columns = (slice(128 * n, 128 * (n + 1)) for n in (row, column))
        pairs = allowed[rows, columns]
        assert touched[row, column] or not pairs.any()
        assert pairs.all() or not whole[row, column]


def test_a_window_touches_few_blocks_and_a_full_pattern_has_whole_ones():
    touched, whole = block_tables(Local(255, 0).terms(), MaskSizes(4096, 4096, 0))
    assert touched.sum(1).max() == 3
    assert not whole.diagonal().any()
    assert block_tables(Full().terms(), MaskSizes(300, 500, 0))[1].all()
    touched, whole = block_tables(Causal().terms(), MaskSizes(512, 512, 0))
    assert (touched.sum(), whole.sum()) == (10, 6)


@pytest.mark.slow
def test_tables_of_long_texts_have_larger_blocks():
    assert MaskSizes(4096, 300_000, 0).block == 256
    touched, _ = block_tables(Local(255, 0).terms(), MaskSizes(1 << 20, 1 << 20, 0))
    assert touched.shape == (2048, 2048)
