"""Scores and biases against their formulas, pair by pair."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from regard.attention import (
    Additive,
    Alibi,
    AttentionOptions,
    Cosine,
    DotProduct,
    Full,
    T5Relative,
    TransformerXL,
    alibi_slopes,
    attend,
    blockwise_attention,
    dense_attention,
)
from regard.errors import ConfigError, ShapeError

HEADS, QUERIES, KEYS, DIM = 2, 4, 5, 3
I = torch.arange(2, 2 + QUERIES)  # noqa: E741 - the formulas' letter
J = torch.arange(KEYS)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Q, K = draw(1, HEADS, QUERIES, DIM, seed=1), draw(1, HEADS, KEYS, DIM, seed=2)
TAU, W = draw(HEADS, seed=3), draw(HEADS, DIM, seed=4)
W4, MAP_Q, MAP_K = draw(HEADS, 4, seed=8), draw(HEADS, DIM, 4, seed=9), draw(1, DIM, 4, seed=10)
U, V, R = draw(HEADS, DIM, seed=5), draw(HEADS, DIM, seed=6), draw(HEADS, 6, DIM, seed=7)


def distance_row(i, j):
    """The row of a table that covers the distances -2 to 3."""
    return min(max(int(i - j) + 2, 0), 5)


FORMULAS = [
    (DotProduct(), lambda q, k, h, i, j: q @ k / math.sqrt(DIM)),
    (DotProduct(scale=2.0, soft_cap=3.0), lambda q, k, h, i, j: 3 * torch.tanh(2 * (q @ k) / 3)),
    (Cosine(TAU), lambda q, k, h, i, j: TAU[h] * (q @ k) / (q.norm() * k.norm())),
    (Cosine(2.5), lambda q, k, h, i, j: 2.5 * (q @ k) / (q.norm() * k.norm())),
    (Additive(W), lambda q, k, h, i, j: W[h] @ torch.tanh(q + k)),
    (
        Additive(W4, MAP_Q, MAP_K),
        lambda q, k, h, i, j: W4[h] @ torch.tanh(q @ MAP_Q[h] + k @ MAP_K[0]),
    ),
    (
        Additive(W, key_map=MAP_Q[..., :DIM]),
        lambda q, k, h, i, j: W[h] @ torch.tanh(q + k @ MAP_Q[h, :, :DIM]),
    ),
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


EVERY = pytest.mark.parametrize("score", [score for score, _ in FORMULAS], ids=repr)


@EVERY
def test_keys_of_one_head_serve_all_heads(score):
    found = score(Q, K[:, :1], I[:, None], J, score.tensors())
    shared = K[:, :1].expand(-1, HEADS, -1, -1)
    torch.testing.assert_close(found, score(Q, shared, I[:, None], J, score.tensors()))


@EVERY
def test_torch_func_takes_the_hessian_of_a_score(score):
    q, k = Q[:, :, :1], K[:, :, :1]
    direction = draw(*q.shape, seed=11)

    def total(q):
        return score(q, k, I[:1, None], J[:1], score.tensors()).square().sum()

    found = torch.einsum(
        "ij,j->i",
        torch.func.hessian(total)(q).reshape(q.numel(), q.numel()),
        direction.flatten(),
    )
    wanted = torch.func.jvp(torch.func.grad(total), (q,), (direction,))[1]
    torch.testing.assert_close(found, wanted.flatten())


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_vectors_of_any_type_have_finite_scores_of_that_type(score, dtype):
    q, k = (torch.full((1, HEADS, 2, DIM), sign * 1e4, dtype=dtype) for sign in (1, -1))
    found = score(q, k, I[:2, None], J[:2], tuple(x.to(dtype) for x in score.tensors()))
    assert found.dtype == dtype
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [-36, -20, -3, 0, 19, 37])
def test_the_cosine_does_not_depend_on_the_norm(dtype, power):
    q, k = Q.to(dtype) * 10.0**power, K.to(dtype)
    score = Cosine(torch.ones(1, dtype=dtype))
    found = score(q, k, I[:, None], J, score.tensors())
    wanted = torch.nn.functional.cosine_similarity(Q[:, :, :, None], K[:, :, None], dim=-1)
    torch.testing.assert_close(found, wanted.to(dtype), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("norm", [1e-8, 1e-3, 1.0, 1e8])
def test_the_cosine_has_exact_derivatives_at_every_norm(norm):
    unit = Q / Q.norm(dim=-1, keepdim=True)

    def run(direction, k):
        return Cosine(2.0)(direction * norm, k, I[:, None], J, ())

    inputs = (unit.clone().requires_grad_(), (K * norm).requires_grad_())
    assert gradcheck(run, (*inputs[:1], K.clone().requires_grad_()))
    assert gradgradcheck(run, (*inputs[:1], K.clone().requires_grad_()))
    q = (unit * norm).requires_grad_()
    score = Cosine(2.0)(q, inputs[1], I[:, None], J, ())
    (first,) = torch.autograd.grad(score.square().sum(), q, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), q)
    at_one = unit.clone().requires_grad_()
    score = Cosine(2.0)(at_one, K, I[:, None], J, ())
    (wanted,) = torch.autograd.grad(score.square().sum(), at_one, create_graph=True)
    torch.testing.assert_close(first * norm, wanted)  # the derivative falls with the norm
    (wanted,) = torch.autograd.grad(wanted.square().sum(), at_one)
    torch.testing.assert_close(second * norm**3, wanted)


@pytest.mark.parametrize("compute", [dense_attention, blockwise_attention])
def test_long_and_short_vectors_attend_by_their_cosine(compute):
    def run(scale_q, scale_k):
        q, k = (Q.float() * scale_q).requires_grad_(), (K.float() * scale_k).requires_grad_()
        options = AttentionOptions(score=Cosine(3.0))
        if compute is dense_attention:
            out = dense_attention(q, k, K.float(), mask=None, options=options)[0]
        else:
            out = blockwise_attention(q, k, K.float(), pattern=Full(), options=options).out
        grads = torch.autograd.grad(out.square().sum(), (q, k))
        return out, grads[0] * scale_q, grads[1] * scale_k

    torch.testing.assert_close(run(1e20, 1e-20), run(1.0, 1.0))


def test_the_cosine_of_zero_vectors_is_zero_and_so_are_its_derivatives():
    q = torch.zeros(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    score = Cosine(torch.ones(1, dtype=torch.float64))
    found = score(q, q, I[:2, None], J[:2], score.tensors())
    (first,) = torch.autograd.grad(found.sum(), q, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), q)
    assert (found == 0).all()
    assert (first == 0).all()
    assert (second == 0).all()


@pytest.mark.parametrize("compute", [dense_attention, blockwise_attention])
def test_a_zero_key_among_others_leaves_their_derivatives_exact(compute):
    k = K.clone()
    k[:, :, 1] = 0
    mask = torch.ones(1, dtype=torch.bool)

    def run(q, k, others):
        k = torch.cat([k, others], dim=2)
        options = AttentionOptions(score=Cosine(2.0))
        if compute is dense_attention:
            return dense_attention(q, k, k, mask=mask, options=options)[0]
        return blockwise_attention(q, k, k, pattern=Full(), options=options).out

    q, others = Q.clone().requires_grad_(), K[:, :, 2:].clone().requires_grad_()
    assert gradcheck(lambda q, others: run(q, k[:, :, :2], others), (q, others), fast_mode=True)
    assert gradgradcheck(lambda q, others: run(q, k[:, :, :2], others), (q, others), fast_mode=True)
    zero = k[:, :, :2].clone().requires_grad_()
    (found,) = torch.autograd.grad(run(q, zero, others).sum(), zero)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cosine_of_large_vectors_is_bounded(dtype):
    q = torch.full((1, 1, 2, 3), 1e4, dtype=dtype)
    score = Cosine(torch.ones(1, dtype=dtype))
    found = score(q, -q, I[:2, None], J[:2], score.tensors())
    torch.testing.assert_close(found, torch.full_like(found, -1.0), rtol=1e-2, atol=1e-2)


MIXED = [
    Cosine(TAU.float()),
    Additive(W4.float(), MAP_Q.float(), MAP_K.float()),
    TransformerXL(U.float(), V.float(), R.float(), offset=2),
]


@pytest.mark.parametrize("length", [5, 600])
@pytest.mark.parametrize("score", MIXED, ids=lambda x: type(x).__name__)
def test_float32_tensors_go_with_half_precision_and_in_autocast(score, length):
    q, k = (draw(1, HEADS, length, DIM, seed=seed).float() for seed in (1, 2))
    wanted = attend(q, k, k, score=score)
    half = attend(q.bfloat16(), k.bfloat16(), k.bfloat16(), score=score)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), wanted, rtol=0.05, atol=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(attend(q, k, k, score=score), half, rtol=0.05, atol=0.05)


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


@pytest.mark.slow
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
            "soft_cap must be above 0 and finite, or None, not 0.0",
        ),
        (
            lambda: DotProduct(soft_cap=math.inf),
            ConfigError,
            "soft_cap must be above 0 and finite, or None, not inf",
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
            "weight has shape [3]; expected [heads or 1, hidden].",
        ),
        (
            lambda: Additive(W4, query_map=torch.zeros(2, 3)),
            ShapeError,
            "query_map has shape [2, 3]; expected [heads or 1, dim, 4], its last axis as of "
            "weight.",
        ),
        (
            lambda: Additive(W4, key_map=torch.zeros(2, 3, 5)),
            ShapeError,
            "key_map has shape [2, 3, 5]; expected [heads or 1, dim, 4], its last axis as of "
            "weight.",
        ),
        (
            lambda: TransformerXL(U, V, R[:, :0]),
            ShapeError,
            "relative has shape [2, 0, 3]; expected one distance or more, "
            "[heads or 1, distances, dim].",
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
