"""Batches: every row once an epoch, within budget, little padding, a repeatable order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.batching import PairBatches, TokenRows, parts_to_encode

ROWS = st.lists(st.lists(st.integers(3, 50), max_size=12), min_size=1, max_size=60)


def batches_of(sources, targets, batch_tokens=32, seed=1):
    return PairBatches(TokenRows(sources), TokenRows(targets), batch_tokens=batch_tokens, seed=seed)


@settings(max_examples=60, deadline=None)
@given(sources=ROWS, epoch=st.integers(0, 3))
def test_an_epoch_holds_every_row_once_within_the_budget(sources, epoch):
    targets = [row[::-1] for row in sources]
    batches = batches_of(sources, targets)
    order = batches.order(epoch)
    assert sorted(np.concatenate(order).tolist()) == list(range(len(sources)))
    for rows in order:
        padded = batches.batch(rows).labels.numel()
        assert padded <= 32 or len(rows) == 1


def test_the_budget_bounds_the_sources_too():
    sources, targets = [[3] * 250] * 1000, [[3]] * 1000
    batches = batches_of(sources, targets, batch_tokens=1024)
    assert {batches.batch(rows).source_ids.shape for rows in batches.order(0)} == {(4, 251)}


@settings(max_examples=60, deadline=None)
@given(sources=ROWS, epoch=st.integers(0, 3))
def test_sources_and_targets_of_any_lengths_stay_within_the_budget(sources, epoch):
    batches = batches_of(sources, sources[::-1])
    order = batches.order(epoch)
    assert sorted(np.concatenate(order).tolist()) == list(range(len(sources)))
    for rows in order:
        batch = batches.batch(rows)
        assert max(batch.source_ids.numel(), batch.labels.numel()) <= 32 or len(rows) == 1


def test_a_batch_holds_shifted_targets_with_begin_and_end():
    batches = batches_of([[5, 6], [7]], [[8], [9, 10]])
    batch = batches.batch(np.array([0, 1]))
    assert batch.source_ids.tolist() == [[5, 6, 2], [7, 2, 0]]
    assert batch.target_ids.tolist() == [[1, 8, 0], [1, 9, 10]]
    assert batch.labels.tolist() == [[8, 2, 0], [9, 10, 2]]


def test_the_order_depends_on_seed_and_epoch_only():
    rng = np.random.default_rng(0)
    rows = [[3] * int(n) for n in rng.integers(1, 30, 300)]

    def order(seed, epoch):
        return [batch.tolist() for batch in batches_of(rows, rows, seed=seed).order(epoch)]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


@pytest.mark.slow
def test_padding_is_below_three_percent_on_lengths_like_those_of_real_text():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.0, 0.7, 40_000).astype(int), 1, 200)
    others = np.clip((lengths * rng.normal(1.1, 0.2, 40_000)).astype(int), 1, 250)
    batches = batches_of([[3] * n for n in lengths], [[3] * n for n in others], batch_tokens=1024)
    assert batches.padding_fraction(batches.order(0)) < 0.03


def test_padding_is_below_five_percent_for_few_long_documents():
    rng = np.random.default_rng(0)
    sources = [
        [3] * length for length in np.clip(rng.lognormal(6.8, 0.6, 1000), 50, 8000).astype(int)
    ]
    targets = [[3] * length for length in np.clip(rng.normal(60, 15, 1000), 10, 200).astype(int)]
    batches = batches_of(sources, targets, batch_tokens=8192)
    assert batches.padding_fraction(batches.order(0)) < 0.05


def test_sizes_of_batches_count_padding_and_sources():
    batches = batches_of(
        [[3] * n for n in (1, 2, 4)], [[3] * n for n in (5, 6, 7)], batch_tokens=64
    )
    assert batches.padded_sizes([np.array([0, 1]), np.array([2])]) == [2 * 7, 2 * 3, 8, 5]


@pytest.mark.parametrize("before", [None, 1])
@pytest.mark.parametrize("after", [[], [2], [0], [2, 7]])
def test_empty_rows_can_be_padded(before, after):
    padded = TokenRows([[], [4, 5]]).pad(np.array([0, 1]), before=before, after=after)
    lead = [] if before is None else [before]
    assert padded[1].tolist() == [*lead, 4, 5, *after]
    assert padded[0].tolist() == [*lead, *after, 0, 0]


@given(rows=ROWS, data=st.data())
def test_selected_rows_are_those_of_the_whole(rows, data):
    numbers = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1))))
    selected = TokenRows(rows).select(np.array(numbers, dtype=np.int64))
    assert [selected[n].tolist() for n in range(len(selected))] == [rows[n] for n in numbers]


@given(lengths=st.lists(st.sampled_from([0, 1, 400_000, 1_048_576, 1_500_000]), max_size=12))
def test_parts_hold_every_text_once_and_few_characters(lengths):
    texts = ["x" * length for length in lengths]
    parts = list(parts_to_encode(texts))
    assert [row for part in parts for row in part] == list(range(len(texts)))
    assert all(len(part) == 1 or sum(lengths[row] for row in part) <= 1 << 20 for part in parts)
