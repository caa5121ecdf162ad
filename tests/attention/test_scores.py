"""Scores and biases against their formulas, pair by pair."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from regard.attention import (
    Additive,
    Alibi,
    Cosine,
    DotProduct,
    T5Relative,
    TransformerXL,
    alibi_slopes,
)
from regard.errors import ConfigError, ShapeError

HEADS, QUERIES, KEYS, DIM = 2, 4, 5, 3
I = torch.arange(2, 2 + QUERIES)  # noqa: E741 - the formulas' letter
J = torch.arange(KEYS)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Q, K = draw(1, HEADS, QUERIES, DIM, seed=1), draw(1, HEADS, KEYS, DIM, seed=2)
TAU, W = draw(HEADS, seed=3), draw(HEADS, DIM, seed=4)
U, V, R = draw(HEADS, DIM, seed=5), draw(HEADS, DIM, seed=6), draw(HEADS, 6, DIM, seed=7)


def distance_row(i, j):
    """The row of a table that covers the distances -2 to 3."""
    return min(max(int(i - j) + 2, 0), 5)


FORMULAS = [
    (DotProduct(), lambda q, k, h, i, j: q @ k / math.sqrt(DIM)),
    (DotProduct(scale=2.0, soft_cap=3.0), lambda q, k, h, i, j: 3 * torch.tanh(2 * (q @ k) / 3)),
    (Cosine(TAU), lambda q, k, h, i, j: TAU[h] * (q @ k) / (q.norm() * k.norm())),
    (Additive(W), lambda q, k, h, i, j: W[h] @ torch.tanh(q + k)),
    (
        TransformerXL(U, V, R, offset=2),
        lambda q, k, h, i, j: (
            ((q + U[h]) @ k + (q + V[h]) @ R[h, distance_row(i, j)]) / math.sqrt(DIM)
        ),
    ),
]


@pytest.mark.parametrize(("score", "formula"), FORMULAS, ids=lambda x: type(x).__name__)
def test_a_score_equals_its_formula(score, formula):
    found = score(Q, K, I[:, None], J, score.tensors())
    for h in range(HEADS):
        for a, i in enumerate(I):
            for j in J:
                wanted = formula(Q[0, h, a], K[0, h, j], h, i, j)
                assert found[0, h, a, j] == pytest.approx(float(wanted), rel=1e-9)


@pytest.mark.parametrize("score", [score for score, _ in FORMULAS], ids=repr)
def test_a_score_has_exact_derivatives_in_all_its_tensors(score):
    tensors = tuple(x.clone().requires_grad_() for x in (Q, K, *score.tensors()))

    def run(q, k, *held):
        return score(q, k, I[:, None], J, held)

    assert gradcheck(run, tensors, fast_mode=True)
    assert gradgradcheck(run, tensors, fast_mode=True)


@pytest.mark.parametrize("score", [score for score, _ in FORMULAS], ids=repr)
def test_the_score_of_a_block_is_a_part_of_the_whole(score):
    whole = score(Q, K, I[:, None], J, score.tensors())
    held = tuple(x if x.shape[0] == 1 else x[1:] for x in score.tensors())
    part = score(Q[:, 1:, 1:3], K[:, 1:, 2:], I[1:3, None], J[2:], held)
    torch.testing.assert_close(part, whole[:, 1:, 1:3, 2:])


def test_the_cosine_of_zero_vectors_is_zero_with_finite_derivatives():
    q = torch.zeros(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    score = Cosine(torch.ones(1, dtype=torch.float64))
    found = score(q, q, I[:2, None], J[:2], score.tensors())
    (first,) = torch.autograd.grad(found.sum(), q, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), q)
    assert (found == 0).all()
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cosine_of_large_vectors_is_bounded(dtype):
    q = torch.full((1, 1, 2, 3), 1e4, dtype=dtype)
    score = Cosine(torch.ones(1, dtype=dtype))
    found = score(q, -q, I[:2, None], J[:2], score.tensors())
    torch.testing.assert_close(found, torch.full_like(found, -1.0), rtol=1e-2, atol=1e-2)


def test_alibi_falls_with_the_distance_by_the_slope_of_the_head():
    slopes = alibi_slopes(2).double()
    bias = Alibi(slopes)
    found = bias(I[:, None], J, bias.tensors())
    assert slopes.tolist() == [2**-4, 2**-8]
    for h in range(2):
        torch.testing.assert_close(found[h], -slopes[h] * (I[:, None] - J).abs())


def test_the_slopes_of_other_numbers_of_heads_are_those_of_the_authors():
    wanted = [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    torch.testing.assert_close(alibi_slopes(6), torch.tensor(wanted))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5_buckets_equal_those_of_transformers(bidirectional):
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    bias = T5Relative(torch.zeros(1, 32), bidirectional=bidirectional)
    distances = torch.arange(-300, 301)
    wanted = t5.T5Attention._relative_position_bucket(distances, bidirectional=bidirectional)
    assert torch.equal(bias.buckets(distances), wanted)


def test_near_distances_have_a_bucket_each_and_far_ones_share():
    buckets = T5Relative(torch.zeros(1, 8), max_distance=16).buckets(torch.arange(-20, 21))
    assert buckets[18:23].tolist() == [2, 1, 0, 5, 6]
    assert buckets[0] == buckets[4] == 3
    assert buckets[-1] == 7


def test_t5_takes_the_number_of_head_and_bucket():
    table = draw(2, 8)
    bias = T5Relative(table, max_distance=8)
    found = bias(I[:, None], J, bias.tensors())
    buckets = bias.buckets(J - I[:, None])
    torch.testing.assert_close(found, table[:, buckets])


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: DotProduct(soft_cap=0.0),
            ConfigError,
            "soft_cap=0.0: must be above 0 and finite, or None.",
        ),
        (
            lambda: DotProduct(soft_cap=math.inf),
            ConfigError,
            "soft_cap=inf: must be above 0 and finite, or None.",
        ),
        (
            lambda: alibi_slopes(0),
            ConfigError,
            "alibi_slopes(0): the number of heads must be 1 or more.",
        ),
        (
            lambda: Cosine(torch.zeros(2, 1)),
            ShapeError,
            "temperature has shape [2, 1]; expected [heads] or [1].",
        ),
        (
            lambda: Additive(torch.zeros(3)),
            ShapeError,
            "weight has shape [3]; expected [heads or 1, dim].",
        ),
        (
            lambda: TransformerXL(U, V, R, offset=6),
            ConfigError,
            "TransformerXL(offset=6): must be 0 to 5, a row of relative.",
        ),
        (
            lambda: Alibi(torch.zeros(2, 2)),
            ShapeError,
            "slopes has shape [2, 2]; expected [heads].",
        ),
        (
            lambda: T5Relative(torch.zeros(3)),
            ShapeError,
            "table has shape [3]; expected [heads, buckets].",
        ),
        (
            lambda: T5Relative(torch.zeros(2, 32), max_distance=8),
            ConfigError,
            "T5Relative(max_distance=8) with 32 buckets: needs at least 4 buckets, and "
            "max_distance above 8.",
        ),
    ],
)
def test_a_wrong_argument_is_named(build, error, message):
    with pytest.raises(error) as raised:
        build()
    assert str(raised.value) == message
