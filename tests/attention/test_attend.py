"""`attend` against the definition, and what it refuses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from regard.attention import Causal, Full, Local, allowed_matrix, attend
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
    out = attend(q, k, v, pattern=pattern, lengths=lengths, query_offset=offset)
    torch.testing.assert_close(out, loop_attention(q, k, v, allowed), rtol=1e-12, atol=1e-12)


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


def test_the_weights_returned_are_those_used():
    q, k, v = (draw(2, 2, 5, 4, seed=seed) for seed in range(3))
    out, weights = attend(q, k, v, pattern=Causal(), return_weights=True)
    torch.testing.assert_close(weights @ v, out)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5, dtype=torch.float64))
    assert (weights.triu(1) == 0).all()


@pytest.mark.parametrize("pattern", [Full(), Causal(), Local(64, 0)], ids=repr)
@pytest.mark.parametrize("lengths", [None, [600, 37]])
def test_the_fused_path_of_long_inputs_equals_the_dense_one(pattern, lengths):
    q, k, v = (draw(2, 1, 600, 8, seed=seed, dtype=torch.float32) for seed in range(3))
    lengths = None if lengths is None else torch.tensor(lengths)
    out = attend(q, k, v, pattern=pattern, lengths=lengths)
    dense, _ = attend(q, k, v, pattern=pattern, lengths=lengths, return_weights=True)
    torch.testing.assert_close(out, dense, rtol=1e-4, atol=1e-5)


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


def test_the_worked_example_of_softmax():
    weights = torch.tensor([1.0, 2.0, 3.0]).softmax(0)
    assert [round(w, 4) for w in weights.tolist()] == [0.0900, 0.2447, 0.6652]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": (2, 4, 8)}, "q has shape [2, 4, 8]; expected 4 axes, [batch, heads, length, dim]."),
        (
            {"k": (2, 2, 5, 6)},
            "k has shape [2, 2, 5, 6]; expected [2, 2, keys, 8] to fit q [2, 2, 4, 8].",
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
