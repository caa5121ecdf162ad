"""The caches of self-attention: what they keep, and that nothing depends on the choice."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.attention import (
    Causal,
    Full,
    Global,
    Local,
    RelativeWindow,
    Strided,
    TopK,
    attend,
)
from regard.errors import ConfigError
from regard.layers.cache import KeyValueCache, WindowCache, cache_for, shared_sources
from regard.layers.multi_head_attention import SelfAttention


def layer(pattern):
    torch.manual_seed(0)
    return SelfAttention(8, 2, pattern=pattern, output_init_scale=1.0).double()


def inputs(length, batch=2):
    return torch.randn(batch, length, 8, dtype=torch.float64)


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        (Local(255, 0) & Causal(), 256),
        (Local(2, 5) & Causal(), 3),
        (Local(0, 0) & Causal(), 1),
        ((Local(2, 0) | Local(7, 0)) & Causal(), 8),
        (Local(6, 0) & Strided(2) & Causal(), 7),
        (Local(3, 0) & Global([0]) & Causal(), 4),
    ],
)
def test_a_pattern_with_a_bound_gets_a_window_of_that_size(pattern, size):
    cache = cache_for(pattern)
    assert isinstance(cache, WindowCache)
    assert cache.size == size


@pytest.mark.parametrize(
    "pattern",
    [
        Full(),
        Causal(),
        Strided(2) & Causal(),
        (Local(2, 0) | Global([0])) & Causal(),
        TopK(3, causal=True),
    ],
)
def test_a_pattern_without_a_bound_keeps_every_key(pattern):
    assert isinstance(cache_for(pattern), KeyValueCache)


def test_a_pattern_that_depends_on_the_length_has_no_cache():
    with pytest.raises(ConfigError, match="depends on the length, which decoding does not know"):
        cache_for(RelativeWindow(0.1, 0))


@settings(deadline=None)
@given(
    window=st.integers(0, 6),
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    stride=st.integers(1, 3),
)
def test_a_window_fed_in_chunks_equals_the_whole_pass(window, chunks, stride):
    pattern = Local(window, 0) & Strided(stride) & Causal()
    attention, x = layer(pattern), inputs(sum(chunks))
    cache = cache_for(pattern)
    found = torch.cat([attention(part, cache=cache) for part in x.split(chunks, dim=1)], dim=1)
    torch.testing.assert_close(found, attention(x), rtol=0, atol=1e-12)
    assert len(cache) == sum(chunks)


def test_a_window_goes_on_with_selected_rows():
    pattern = Local(2, 0) & Causal()
    attention, x, rows = layer(pattern), inputs(9, batch=3), torch.tensor([2, 0, 2, 1])
    cache = cache_for(pattern)
    for position in range(5):
        attention(x[:, position : position + 1], cache=cache)
    cache.select(rows)
    found = attention(x[rows, 5:6], cache=cache)
    torch.testing.assert_close(found, attention(x)[rows, 5:6], rtol=0, atol=1e-12)
    found = attention(x[rows, 6:], cache=cache)
    torch.testing.assert_close(found, attention(x)[rows, 6:], rtol=0, atol=1e-12)


def test_an_empty_cache_may_be_selected():
    cache = WindowCache(2)
    cache.select(torch.tensor([0]))
    assert len(cache) == 0


def test_a_window_keeps_no_more_than_its_size():
    cache = WindowCache(4)
    cache.append(torch.zeros(1, 1, 100, 2), torch.zeros(1, 1, 100, 2))
    for _ in range(20):
        cache.append(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
        for kept in (cache.keys, cache.values):
            assert kept is not None
            assert kept.untyped_storage().nbytes() == 4 * 2 * 4  # keys, dim, bytes
    assert len(cache) == 120


def test_the_positions_of_a_window_tell_the_keys_returned():
    cache = WindowCache(3)
    places = torch.arange(9.0)[None, None, :, None]
    for start, count in ((0, 2), (2, 1), (3, 1), (4, 1), (5, 2), (7, 1)):
        part = places[:, :, start : start + count]
        keys, _ = cache.append(part, part)
        found = cache.positions
        expected = torch.arange(keys.shape[2]) if found is None else found
        assert keys.flatten().tolist() == expected.tolist()
        assert (found is None) == (start < 3)


def test_gradients_flow_through_a_window():
    pattern = Local(1, 0) & Causal()
    attention, x = layer(pattern), inputs(5).requires_grad_()
    cache = cache_for(pattern)
    steps = [attention(x[:, t : t + 1], cache=cache) for t in range(5)]
    (found,) = torch.autograd.grad(torch.cat(steps, dim=1).square().sum(), x)
    (wanted,) = torch.autograd.grad(attention(x).square().sum(), x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_attend_takes_the_keys_of_a_window():
    q = torch.randn(1, 1, 1, 4, dtype=torch.float64)
    k, v = (torch.randn(1, 1, 7, 4, dtype=torch.float64) for _ in range(2))
    cache = WindowCache(3)
    cache.append(k[:, :, :6], v[:, :, :6])
    keys, values = cache.append(k[:, :, 6:], v[:, :, 6:])
    pattern = Local(2, 0)
    found = attend(q, keys, values, pattern=pattern, query_offset=6, key_positions=cache.positions)
    wanted = attend(q, k, v, pattern=pattern, query_offset=6)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_keys_are_written_into_memory_that_grows_by_doubling():
    cache, addresses = KeyValueCache(), []
    for _ in range(40):
        keys, _ = cache.append(torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 1, 4))
        addresses.append(keys.data_ptr())
    changes = [i for i in range(1, 40) if addresses[i] != addresses[i - 1]]
    assert changes == [16, 32]
    assert keys.shape == (2, 1, 40, 4)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [0, 1, 2, 2], [3, 1, 2], [1, 0], [2, 2, 2, 0, 1]])
@pytest.mark.parametrize("size", [None, 4])
def test_rows_are_selected_whether_they_move_or_stay(rows, size):
    cache = KeyValueCache() if size is None else WindowCache(size)
    x = torch.randn(4, 2, 6, 3)
    for part in x.split(1, dim=2):
        cache.append(part, -part)
    before = cache.keys.clone()
    cache.select(torch.tensor(rows))
    assert torch.equal(cache.keys, before[rows])
    assert torch.equal(cache.values, -before[rows])
    new = torch.randn(len(rows), 2, 1, 3)
    keys, _ = cache.append(new, new)
    if size is None:
        assert torch.equal(keys, torch.cat([before[rows], new], dim=2))


def test_rows_of_one_source_share_it():
    assert shared_sources(torch.tensor([0, 0, 2, 2]))[1] == 2
    sources, readers = shared_sources(torch.tensor([0, 0, 2]))
    assert (sources.tolist(), readers) == ([0, 0, 2], 1)
