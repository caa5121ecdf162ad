"""Patterns that only the length settles: shares of it, random blocks over it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from regard.attention import (
    Blocks,
    Causal,
    Full,
    Global,
    LengthDependentPattern,
    Local,
    RandomBlocks,
    RelativeWindow,
    Strided,
    TopK,
    allowed_matrix,
    attend,
    blockwise_attention,
)
from regard.attention.options import AttentionOptions
from regard.errors import ConfigError

SHARE, RANDOM = RelativeWindow(0.2, 0.1), RandomBlocks(4, 2, seed=3)
PATTERNS = [
    SHARE,
    RANDOM,
    (SHARE | Global((0,))) & Causal(),
    RANDOM | RelativeWindow(0.1, 0.0),
]
EVERY = pytest.mark.parametrize("pattern", PATTERNS, ids=repr)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [(100, Local(20, 10)), (14, Local(3, 1)), (2, Local(1, 1)), (0, Local(1, 1))],
)
def test_a_share_is_rounded_and_one_key_at_least(keys, wanted):
    assert SHARE.resolve(7, keys) == wanted


def test_a_share_of_nothing_stays_nothing():
    assert RelativeWindow(0.5, 0.0).resolve(8, 8) == Local(4, 0)


@given(queries=st.integers(1, 60), more=st.integers(0, 20), keys=st.integers(1, 60))
def test_more_queries_change_no_row_of_random_blocks(queries, more, keys):
    few, many = RANDOM.resolve(queries, keys), RANDOM.resolve(queries + more, keys)
    assert many.mask[: len(few.mask)] == few.mask
    assert len(few.mask) == -(-queries // 4)
    assert len(few.mask[0]) == -(-keys // 4)


def test_random_blocks_are_those_of_the_constructor():
    assert RANDOM.resolve(13, 16) == Blocks.random(4, 4, 4, per_row=2, seed=3)
    assert RandomBlocks(4, 9).resolve(8, 8) == Blocks([[True, True], [True, True]], 4)


def test_a_union_resolves_both_of_its_patterns():
    pattern = (SHARE | Global((0,))) & Causal()
    assert isinstance(pattern, LengthDependentPattern)
    assert pattern.resolve(10, 10) == (Local(2, 1) | Global((0,))) & Causal()


@pytest.mark.parametrize("pattern", [Full(), Strided(2) | Local(1, 0), TopK(3)], ids=repr)
def test_other_patterns_resolve_to_themselves(pattern):
    assert not isinstance(pattern, LengthDependentPattern)
    assert pattern.resolve(5, 5) is pattern


@EVERY
def test_cost_and_picture_are_those_of_the_resolved_pattern(pattern):
    resolved = pattern.resolve(20, 20)
    assert pattern.cost(20, 20) == resolved.cost(20, 20)
    assert pattern.show(20) == resolved.show(20)


def test_a_pattern_without_a_length_has_no_pairs():
    assert not hasattr(SHARE, "terms")
    assert not hasattr(RANDOM | Local(1, 0), "allowed")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: RelativeWindow(1.5, 0.0),
            "RelativeWindow(before=1.5, after=0.0): both must be 0 to 1, and one above 0.",
        ),
        (
            lambda: RelativeWindow(0.0, 0.0),
            "RelativeWindow(before=0.0, after=0.0): both must be 0 to 1, and one above 0.",
        ),
        (
            lambda: RandomBlocks(0, 1),
            "RandomBlocks(size=0, per_row=1, seed=0): size and per_row must be 1 or more, seed 0 "
            "or more.",
        ),
    ],
)
def test_an_argument_out_of_range_is_refused(build, message):
    with pytest.raises(ConfigError) as raised:
        build()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("pattern", "length"),
    [(pattern, 20) for pattern in PATTERNS]
    + [(SHARE, 520), (RandomBlocks(64, 2), 520), (RandomBlocks(64, 2) | SHARE, 520)],
)
def test_a_row_sees_the_same_alone_and_next_to_longer_ones(pattern, length):
    q, k, v = (draw(3, 1, length, 4, seed=seed) for seed in range(3))
    lengths = torch.tensor([length, length // 2, length - 7])
    out, weights = attend(q, k, v, pattern=pattern, lengths=lengths, return_weights=True)
    for row, valid in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        alone, used = attend(
            *(x[one, :, :valid] for x in (q, k, v)), pattern=pattern, return_weights=True
        )
        torch.testing.assert_close(out[one, :, :valid], alone)
        found = weights.to_dense()[one, :, :valid, :valid]
        torch.testing.assert_close(found, used.to_dense())


@EVERY
def test_it_equals_the_resolved_pattern_with_all_other_terms(pattern):
    q, k, v = (draw(2, 2, 12, 4, seed=seed) for seed in range(3))
    others = {
        "bias": draw(2, 1, 12, 12, seed=4),
        "segments": (torch.arange(24).view(2, 12) // 5,) * 2,
        "lengths": torch.tensor([12, 7]),
    }
    found = attend(q, k, v, pattern=pattern, **others)
    for row, valid in enumerate((12, 7)):
        resolved = pattern.resolve(12, valid)
        torch.testing.assert_close(
            found[row], attend(q, k, v, pattern=resolved, **others)[row], msg=str(row)
        )


def test_rows_that_are_computed_apart_drop_weights_of_their_own():
    q = torch.zeros(2, 1, 40, 2)
    _, weights = attend(
        q,
        q,
        q,
        pattern=RelativeWindow(1.0, 1.0),
        lengths=(None, torch.tensor([40, 39])),
        dropout=0.5,
        generator=torch.Generator().manual_seed(1),
        return_weights=True,
    )
    dropped = weights == 0
    assert not torch.equal(dropped[0, :, :, :39], dropped[1, :, :, :39])
    assert dropped[1, :, :, :39].double().mean() == pytest.approx(0.5, abs=0.05)


def test_derivatives_go_to_the_rows_they_belong_to():
    inputs = tuple(draw(3, 1, 6, 2, seed=seed).requires_grad_() for seed in range(3))
    lengths = torch.tensor([6, 3, 4])
    pattern = RelativeWindow(0.5, 0.0)

    def run(q, k, v):
        return attend(q, k, v, pattern=pattern, lengths=lengths)

    assert gradcheck(run, inputs, fast_mode=True)


@EVERY
def test_one_step_of_cross_attention_equals_that_step_of_the_whole(pattern):
    q, k, v = draw(2, 2, 9, 4), draw(2, 2, 14, 4, seed=1), draw(2, 2, 14, 4, seed=2)
    lengths = (None, torch.tensor([14, 10]))
    whole = attend(q, k, v, pattern=pattern, lengths=lengths)
    for i in range(9):
        step = attend(q[:, :, i : i + 1], k, v, pattern=pattern, lengths=lengths, query_offset=i)
        torch.testing.assert_close(step[:, :, 0], whole[:, :, i])


@EVERY
def test_blockwise_attention_resolves_by_all_keys(pattern):
    q, k, v = (draw(1, 2, 15, 4, seed=seed) for seed in range(3))
    found = blockwise_attention(q, k, v, pattern=pattern, options=AttentionOptions()).out
    torch.testing.assert_close(found, attend(q, k, v, pattern=pattern.resolve(15, 15)))
    assert torch.equal(
        allowed_matrix(pattern, 15, 15), allowed_matrix(pattern.resolve(15, 15), 15, 15)
    )
