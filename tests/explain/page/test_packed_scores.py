"""Scores as a page holds them."""

from __future__ import annotations

import base64
import zlib

import numpy as np

from regard.explain.page.packed_scores import pack_scores


def planes(data: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=np.uint8)


def test_packed_scores_are_within_a_thousandth_of_the_largest():
    rng = np.random.default_rng(1)
    scores = [[None, *map(float, rng.normal(size=99))] for _ in range(3)]
    packed = pack_scores(scores)
    low, high = planes(packed.data).reshape(2, 3, 100).astype(np.int64)
    integers = (low + 256 * high + 2**15) % 2**16 - 2**15
    assert (integers[:, 0] == -(2**15)).all()
    unpacked = integers[:, 1:] / (2**15 - 1) * np.array(packed.largest)[:, None]
    assert np.abs(unpacked - np.array([row[1:] for row in scores])).max() < 1e-3
