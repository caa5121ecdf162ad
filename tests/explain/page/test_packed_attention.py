"""Attention as a page holds it: the largest weights of each row, and what they share."""

from __future__ import annotations

import base64
import zlib

import numpy as np
from tests.explain import sample_explanations as samples

from regard.explain.document import AttentionRow
from regard.explain.page.packed_attention import pack_attention


def planes(data: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=np.uint8)


def test_packed_attention_has_the_keys_the_weights_and_the_rest_of_each_row():
    rows = [AttentionRow([0, 3], [700, 200], 100), AttentionRow([2], [1000], 0)]
    (layer,) = samples.attention_maps("encoder", 1, 1, 2, 400)
    layer = type(layer)(
        **{**{f: getattr(layer, f) for f in layer.__struct_fields__}, "heads": [rows]}
    )
    (packed,) = pack_attention([layer])
    columns = [  # each its low bytes, then its high bytes
        *(2, 1, 0, 0),
        *(0, 3, 2, 0, 0, 0),
        *(700 & 255, 200, 1000 & 255, 2, 0, 3),
        *(100, 0, 0, 0),
    ]
    assert planes(packed.rows).tolist() == columns
    assert planes(packed.runs).tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 144, 144, 1, 1]


def test_rows_keep_their_largest_weights_where_all_would_be_too_much():
    maps = samples.attention_maps("encoder", 1, 4, 64, 64)
    whole = pack_attention(maps)[0]
    (packed,) = pack_attention(maps, len(whole.rows) // 3)
    assert packed.most < whole.most == 16
    counts = planes(packed.rows)[: 4 * 64].astype(int)
    assert counts.max() == packed.most
    weights_and_rest = planes(packed.rows)[2 * 4 * 64 + 2 * counts.sum() :].astype(int)
    total = counts.sum()
    weights = weights_and_rest[:total] + 256 * weights_and_rest[total : 2 * total]
    rest = weights_and_rest[2 * total :][: 4 * 64] + 256 * weights_and_rest[2 * total + 4 * 64 :]
    sums = np.add.reduceat(weights, np.cumsum(counts) - counts) + rest
    assert np.abs(sums - 1000).max() <= 8  # thousandths, rounded


def test_layers_with_the_same_pattern_share_their_runs():
    first, second = pack_attention(samples.attention_maps("encoder", 2, 1, 8, 8))
    assert isinstance(first.runs, str)
    assert second.runs == 0
