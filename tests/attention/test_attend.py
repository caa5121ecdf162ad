"""`attend` against the definition, and what it refuses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from regard.attention import (
    Additive,
    Alibi,
    AttentionOptions,
    Causal,
    Cosine,
    DotProduct,
    Full,
    Global,
    Hierarchical,
    Local,
    RelativeWindow,
    Strided,
    T5Relative,
    TopK,
    TransformerXL,
    allowed_matrix,
    attend,
    dense_attention,
)
from regard.errors import ConfigError, ShapeError

PATTERNS = [
    Full(),
    Causal(),
    Local(2, 0),
    Local(1, 1),
    Causal() & Local(3, 3),
    Local(0, 0) | Causal(),
]


def loop_attention(q, k, v, allowed):
    """The definition, pair by pair, with Python floats' precision."""
    out = torch.zeros(*q.shape[:3], v.shape[3], dtype=q.dtype)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                keys = [j for j in range(k.shape[2]) if allowed[b, i, j]]
                if not keys:
                    continue
                scores = torch.stack([q[b, h, i] @ k[b, h, j] for j in keys])
                weights = torch.softmax(scores / math.sqrt(q.shape[3]), 0)
                out[b, h, i] = sum(w * v[b, h, j] for w, j in zip(weights, keys, strict=True))
    return out


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=40, deadline=None)
@given(
    pattern=st.sampled_from(PATTERNS),
    queries=st.integers(1, 6),
    keys=st.integers(1, 7),
    offset=st.integers(0, 4),
    lengths=st.lists(st.integers(0, 7), min_size=2, max_size=2),
)
def test_attend_equals_the_definition(pattern, queries, keys, offset, lengths):
    q, k, v = draw(2, 2, queries, 4), draw(2, 2, keys, 4, seed=1), draw(2, 2, keys, 3, seed=2)
    lengths = torch.tensor(lengths).clamp(max=keys)
    allowed = allowed_matrix(pattern, queries, keys, query_offset=offset)[None].repeat(2, 1, 1)
    allowed &= torch.arange(keys) < lengths[:, None, None]
    out = attend(q, k, v, pattern=pattern, lengths=(None, lengths), query_offset=offset)
    torch.testing.assert_close(out, loop_attention(q, k, v, allowed), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_first_and_second_derivatives_are_exact(pattern):
    q, k, v = (draw(1, 2, 4, 3, seed=seed).requires_grad_() for seed in range(3))
    lengths = torch.tensor([3])

    def run(q, k, v):
        return attend(q, k, v, pattern=pattern, lengths=lengths)

    assert gradcheck(run, (q, k, v))
    assert gradgradcheck(run, (q, k, v))


def test_a_query_with_nothing_allowed_gets_zeros_and_zero_gradients():
    q, k, v = (draw(2, 1, 3, 4, seed=seed).requires_grad_() for seed in range(3))
    out = attend(q, k, v, lengths=torch.tensor([0, 3]))
    assert (out[0] == 0).all()
    out.sum().backward()
    assert (q.grad[0] == 0).all()
    assert torch.isfinite(k.grad).all()


def test_where_no_query_sees_a_key_the_gradients_are_zeros():
    q, k, v = (draw(1, 1, 600, 4, seed=seed).requires_grad_() for seed in range(3))
    bias = torch.zeros(1, 1, 600, 600, requires_grad=True)
    for added, inputs in ((None, (q, k, v)), (bias, (q, k, v, bias))):
        out = attend(q, k, v, pattern=Local(0, 0), bias=added, query_offset=600)
        assert not out.any()
        assert not any(x.any() for x in torch.autograd.grad(out.sum(), inputs))


def test_the_weights_returned_are_those_used():
    q, k, v = (draw(2, 2, 5, 4, seed=seed) for seed in range(3))
    out, weights = attend(q, k, v, pattern=Causal(), return_weights=True)
    torch.testing.assert_close(weights @ v, out)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5, dtype=torch.float64))
    assert (weights.triu(1) == 0).all()


def dense_of(q, k, v, pattern, lengths=None):
    """The definition by `dense_attention`, which the loop above has tested."""
    options = AttentionOptions(lengths=lengths)
    mask = options.allowed(allowed_matrix(pattern, q.shape[2], k.shape[2])[None, None], q, k)
    return dense_attention(q, k, v, mask=mask, options=options)[0]


@pytest.mark.parametrize("pattern", [Full(), Causal(), Local(64, 0)], ids=repr)
@pytest.mark.parametrize("lengths", [None, [600, 37]])
def test_the_fused_path_of_long_inputs_equals_the_dense_one(pattern, lengths):
    q, k, v = (draw(2, 1, 600, 8, seed=seed, dtype=torch.float32) for seed in range(3))
    lengths = None if lengths is None else torch.tensor(lengths)
    out = attend(q, k, v, pattern=pattern, lengths=(None, lengths))
    torch.testing.assert_close(out, dense_of(q, k, v, pattern, lengths), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_large_scores_do_not_overflow(dtype):
    q = torch.full((1, 1, 2, 4), 100.0, dtype=dtype)
    k = torch.stack([torch.full((4,), 100.0), torch.full((4,), -100.0)]).to(dtype)[None, None]
    out = attend(q, k, torch.tensor([[[[1.0], [2.0]]]], dtype=dtype), pattern=Causal())
    assert torch.isfinite(out).all()
    assert (out == 1).all()


def test_non_finite_input_gives_non_finite_output():
    q, k, v = (draw(1, 1, 3, 4, seed=seed) for seed in range(3))
    v[0, 0, 0, 0] = math.nan
    assert attend(q, k, v, pattern=Causal()).isnan().any()


@pytest.mark.parametrize("pattern", [Full(), Causal(), Local(9, 0)], ids=repr)
@pytest.mark.parametrize("length", [9, 600])
def test_dual_numbers_carry_the_derivative(pattern, length):
    q, k, v, t = (draw(1, 2, length, 4, seed=seed) for seed in range(4))
    with forward_ad.dual_level():
        out = attend(forward_ad.make_dual(q, t), k, forward_ad.make_dual(v, t), pattern=pattern)
        found = forward_ad.unpack_dual(out).tangent
    wanted = torch.func.jvp(lambda q, v: dense_of(q, k, v, pattern), (q, v), (t, t))[1]
    torch.testing.assert_close(found, wanted)


SHORT_AND_LONG = pytest.mark.parametrize("length", [3, 600])


@SHORT_AND_LONG
@pytest.mark.parametrize(
    "pattern",
    [Full(), Causal(), Local(2, 1), Global((1,)) | Local(1, 0), TopK(2), Hierarchical(2)],
    ids=repr,
)
@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_an_infinite_number_anywhere_gives_no_finite_output(pattern, length, name, value):
    inputs = {x: draw(1, 1, length, 2, seed=seed).abs() for seed, x in enumerate("qkv")}
    inputs[name][0, 0, 0, 0] = value  # the first key is always allowed to the first query
    assert not torch.isfinite(attend(*inputs.values(), pattern=pattern)[0, 0, 0]).all()


@SHORT_AND_LONG
@pytest.mark.parametrize("score", [None, Cosine(2.0), DotProduct(soft_cap=3.0)], ids=repr)
def test_a_key_whose_score_is_minus_infinity_is_not_passed_over(score, length):
    q, k, v = (draw(2, 4, length, 3, seed=seed, dtype=torch.float32) for seed in range(3))
    k = k[:, :2].contiguous()
    k[0, 1, 1] = -math.inf
    out = attend(q.abs(), k, v[:, :2], score=DotProduct() if score is None else score)
    assert out[0, 2:].isnan().all()  # the heads that share it
    assert torch.isfinite(out[0, :2]).all()
    assert torch.isfinite(out[1]).all()


@SHORT_AND_LONG
@pytest.mark.parametrize("pattern", [Full(), Causal(), Local(2, 1), TopK(2)], ids=repr)
@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_a_transform_shows_what_is_not_finite_to_the_same_queries(pattern, length, name):
    inputs = {key: draw(2, 2, length, 3, seed=seed) for seed, key in enumerate("qkv")}
    inputs[name][0, 1, 1, 0], inputs[name][1, 0, -1, 1] = math.nan, -math.inf
    segments = (torch.arange(length) >= length // 2).long().expand(2, -1)

    def run(q, k, v):
        return attend(q, k, v, pattern=pattern, segments=(segments, segments))

    tensors = [tensor.requires_grad_() for tensor in inputs.values()]
    wanted = run(*tensors)
    found, cotangents = torch.func.vjp(run, *tensors)
    assert 0 < wanted.isnan().sum() < wanted.numel()
    torch.testing.assert_close(found, wanted, equal_nan=True)
    ones = torch.ones_like(wanted)
    torch.testing.assert_close(cotangents(ones), torch.autograd.grad(wanted, tensors, ones))


@SHORT_AND_LONG
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_largest_finite_keys_are_finite(length, dtype):
    q, v = (draw(1, 1, length, 2, seed=seed).to(dtype) for seed in range(2))
    most = torch.finfo(dtype).max
    k = torch.full_like(q, most)
    k[0, 0, 1] = -most
    out = attend(q * 0, k, v, pattern=Local(1, 1))
    assert torch.isfinite(out).all()


def test_the_worked_example_of_softmax_has_its_numbers():
    weights = torch.tensor([1.0, 2.0, 3.0]).softmax(0)
    assert [round(w, 4) for w in weights.tolist()] == [0.0900, 0.2447, 0.6652]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": (2, 4, 8)}, "q has shape [2, 4, 8]; expected 4 axes, [batch, heads, length, dim]."),
        (
            {"k": (2, 2, 5, 6)},
            "k has shape [2, 2, 5, 6]; expected [2, 2 or a divisor, keys, 8] "
            "to fit q [2, 2, 4, 8].",
        ),
        (
            {"v": (2, 2, 4, 8)},
            "v has shape [2, 2, 4, 8]; expected [2, 2, 5, value_dim] to fit k [2, 2, 5, 8].",
        ),
    ],
)
def test_a_shape_that_does_not_fit_is_named(change, message):
    shapes = {"q": (2, 2, 4, 8), "k": (2, 2, 5, 8), "v": (2, 2, 5, 8), **change}
    with pytest.raises(ShapeError) as raised:
        attend(*(torch.zeros(shapes[name]) for name in "qkv"))
    assert str(raised.value) == message


def test_lengths_of_another_batch_size_are_refused():
    q = torch.zeros(2, 1, 3, 4)
    with pytest.raises(ShapeError, match=r"lengths has shape \[3\]; expected \[2\], one a row\."):
        attend(q, q, q, lengths=torch.tensor([1, 2, 3]))


def test_a_negative_window_is_refused():
    with pytest.raises(ConfigError, match="both must be 0 or more"):
        Local(-1, 0)


def test_patterns_compare_and_hash_by_value():
    assert Causal() & Local(2, 0) == Causal() & Local(2, 0)
    assert Causal() & Local(2, 0) != Causal() | Local(2, 0)
    assert len({Causal() | Full(), Causal() | Full()}) == 1
    assert repr(Causal() & Full()) == "(Causal() & Full())"


SPARSE = [Local(20, 0), Local(5, 5) | Global((3,)), Strided(40) & Causal()]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("pattern", SPARSE, ids=repr)
def test_weights_of_long_sparse_patterns_are_sparse_and_those_used(pattern, dropout):
    q, k, v = (draw(2, 2, 530, 4, seed=seed) for seed in range(3))
    lengths = torch.tensor([530, 200])
    generator = torch.Generator().manual_seed(3)
    out, weights = attend(
        q,
        k,
        v,
        pattern=pattern,
        lengths=(lengths, lengths),
        dropout=dropout,
        generator=generator,
        return_weights=True,
    )
    assert weights.is_sparse
    torch.testing.assert_close(weights.to_dense() @ v, out)
    assert (weights.to_dense()[1, :, 200:] == 0).all()


def test_a_row_of_weights_can_be_had_alone():
    q, k, v = (draw(1, 2, 530, 4, seed=seed) for seed in range(3))
    pattern = Local(20, 0)
    _, every = attend(q, k, v, pattern=pattern, return_weights=True)
    _, one = attend(q[:, :, 77:78], k, v, pattern=pattern, query_offset=77, return_weights=True)
    torch.testing.assert_close(one[:, :, 0], every.to_dense()[:, :, 77])


def test_padded_queries_give_zeros():
    q, k, v = (draw(2, 1, 6, 4, seed=seed) for seed in range(3))
    lengths = torch.tensor([6, 2])
    out, weights = attend(q, k, v, lengths=(lengths, lengths), return_weights=True)
    assert (out[1, :, 2:] == 0).all()
    assert (weights[1, :, 2:] == 0).all()
    assert (out[1, :, :2] != 0).all()
    of_keys = attend(q, k, v, lengths=lengths)
    assert (of_keys[1, :, 2:] != 0).all()
    torch.testing.assert_close(of_keys[1, :, :2], out[1, :, :2])


@pytest.mark.parametrize("pattern", [Causal(), Local(3, 0), Strided(2) & Causal()], ids=repr)
def test_keys_may_stand_anywhere(pattern):
    q, k, v = (draw(1, 2, 9, 4, seed=seed) for seed in range(3))
    wanted = attend(q, k, v, pattern=pattern)
    order = torch.tensor([4, 8, 0, 6, 2, 1, 3, 7, 5])
    found = attend(q, k[:, :, order], v[:, :, order], pattern=pattern, key_positions=order)
    torch.testing.assert_close(found, wanted)
    empty = torch.cat([order, torch.tensor([-1, -1])])
    padded = [torch.cat([x[:, :, order], draw(1, 2, 2, 4)], dim=2) for x in (k, v)]
    found = attend(q, *padded, pattern=pattern, key_positions=empty)
    torch.testing.assert_close(found, wanted)


def test_dropout_keeps_the_share_asked_and_repeats_with_its_seed():
    q, k, v = (draw(2, 2, 100, 4, seed=seed) for seed in range(3))
    runs = [
        attend(
            q,
            k,
            v,
            dropout=0.25,
            generator=torch.Generator().manual_seed(seed),
            return_weights=True,
        )[1]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert (runs[0] == 0).double().mean() == pytest.approx(0.25, abs=0.01)
    plain = attend(q, k, v, return_weights=True)[1]
    kept = runs[0] != 0
    torch.testing.assert_close(runs[0][kept], plain[kept] / 0.75)


def test_top_k_and_hierarchical_go_through_attend():
    q, k, v = (draw(2, 2, 12, 4, seed=seed) for seed in range(3))
    _, weights = attend(q, k, v, pattern=TopK(3, causal=True), return_weights=True)
    assert ((weights > 0).sum(-1) == torch.arange(1, 13).clamp(max=3)).all()
    near = attend(q, k, v, pattern=Hierarchical(6))
    torch.testing.assert_close(near, attend(q, k, v))
    with pytest.raises(ConfigError, match="does not go with dropout"):
        attend(q, k, v, pattern=Hierarchical(6), dropout=0.1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"bias": torch.zeros(1, 1, 3, 5)},
            ShapeError,
            "bias has shape [1, 1, 3, 5]; expected one that broadcasts to [2, 2, 4, 5], [batch, "
            "heads, queries, keys].",
        ),
        (
            {"segments": (torch.zeros(2, 4).int(), torch.zeros(2, 4).int())},
            ShapeError,
            "segments of keys has shape [2, 4]; expected [2, 5], [batch, keys].",
        ),
        (
            {"key_positions": torch.arange(4)},
            ShapeError,
            "key_positions has shape [4]; expected [5], [keys].",
        ),
        (
            {"lengths": torch.tensor([1.0, 2.0])},
            ShapeError,
            "lengths is torch.float32; expected integers.",
        ),
        (
            {"score": Cosine(torch.ones(3))},
            ShapeError,
            "temperature has shape [3]; expected [2 or 1] to fit q [2, 2, 4, 8].",
        ),
        (
            {"score": Additive(torch.ones(2, 3))},
            ShapeError,
            "weight has shape [2, 3]; expected [2 or 1, 8] to fit q [2, 2, 4, 8].",
        ),
        (
            {"score": Additive(torch.ones(2, 3), query_map=torch.ones(1, 7, 3))},
            ShapeError,
            "query_map has shape [1, 7, 3]; expected [2 or 1, 8, 3] to fit q [2, 2, 4, 8].",
        ),
        (
            {"score": Additive(torch.ones(2, 3), key_map=torch.ones(3, 8, 3))},
            ShapeError,
            "key_map has shape [3, 8, 3]; expected [2 or 1, 8, 3] to fit q [2, 2, 4, 8].",
        ),
        (
            {"score": TransformerXL(torch.ones(1, 8), torch.ones(2, 7), torch.ones(1, 9, 8))},
            ShapeError,
            "position_bias has shape [2, 7]; expected [2 or 1, 8] to fit q [2, 2, 4, 8].",
        ),
        (
            {"score": TransformerXL(torch.ones(1, 6), torch.ones(2, 8), torch.ones(1, 9, 8))},
            ShapeError,
            "content_bias has shape [1, 6]; expected [2 or 1, 8] to fit q [2, 2, 4, 8].",
        ),
        (
            {"score": TransformerXL(torch.ones(1, 8), torch.ones(2, 8), torch.ones(1, 9, 5))},
            ShapeError,
            "relative has shape [1, 9, 5]; expected [2 or 1, 9, 8] to fit q [2, 2, 4, 8].",
        ),
        (
            {"score": Cosine(torch.ones(2).int())},
            ShapeError,
            "temperature is torch.int32 on cpu; expected floating point on cpu.",
        ),
        (
            {"bias": Alibi(torch.ones(3))},
            ShapeError,
            "slopes has shape [3]; expected [2 or 1] to fit q [2, 2, 4, 8].",
        ),
        (
            {"bias": T5Relative(torch.ones(4, 32))},
            ShapeError,
            "table has shape [4, 32]; expected [2 or 1, 32] to fit q [2, 2, 4, 8].",
        ),
        (
            {"pattern": RelativeWindow(0.5, 0.0), "key_positions": torch.arange(5)},
            ConfigError,
            "RelativeWindow(before=0.5, after=0.0) depends on the length and does not go with "
            "key_positions.  Resolve it first: .resolve(num_queries, num_keys).",
        ),
        ({"query_offset": -1}, ConfigError, "query_offset=-1: must be 0 or more."),
        ({"dropout": 1.0}, ConfigError, "dropout=1.0: must be at least 0 and below 1."),
    ],
)
def test_a_term_that_does_not_fit_is_named(change, error, message):
    q, k = torch.zeros(2, 2, 4, 8), torch.zeros(2, 2, 5, 8)
    with pytest.raises(error) as raised:
        attend(q, k, k, **change)
    assert str(raised.value) == message
