"""Blockwise attention equals the dense definition, in value and in derivatives of every order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.covering import covering_pairs
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils.checkpoint import checkpoint

from regard.attention import (
    Additive,
    Alibi,
    AttentionOptions,
    Blocks,
    Causal,
    Cosine,
    DotProduct,
    Full,
    Global,
    Local,
    Strided,
    T5Relative,
    TransformerXL,
    allowed_matrix,
    attend,
    blockwise_attention,
    dense_attention,
)
from regard.attention.backends.cpu_kernels import Fused
from regard.attention.blockwise import schedule as groups

HEADS, DIM, VALUE_DIM = 2, 3, 2
PATTERNS = [
    Full(),
    Causal(),
    Local(3, 0),
    Local(2, 3),
    Local(50, 50),
    Strided(3),
    Strided(2) & Causal(),
    Global((0, 7)),
    (Local(2, 0) | Global((0,)) | Strided(4)) & Causal(),
    Blocks.random(4, 4, 3, per_row=2, seed=1) | Local(1, 1),
]
SCORES = {
    "dot": lambda t: DotProduct(),
    "capped": lambda t: DotProduct(scale=0.7, soft_cap=2.0),
    "cosine": lambda t: Cosine(t["temperature"]),
    "additive": lambda t: Additive(t["weight"]),
    "transformer_xl": lambda t: TransformerXL(t["u"], t["v_bias"], t["relative"], offset=4),
}
BIASES = {
    "none": lambda t: None,
    "alibi": lambda t: Alibi(t["slopes"]),
    "t5": lambda t: T5Relative(t["table"], max_distance=8),
    "tensor": lambda t: t["pairs"],
}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def leaves(queries, keys, kv_heads=HEADS):
    """Everything that a derivative is taken of."""
    return {
        "q": draw(2, HEADS, queries, DIM, seed=1),
        "k": draw(2, kv_heads, keys, DIM, seed=2),
        "v": draw(2, kv_heads, keys, VALUE_DIM, seed=3),
        "temperature": draw(HEADS, seed=4),
        "weight": draw(HEADS, DIM, seed=5),
        "u": draw(HEADS, DIM, seed=6),
        "v_bias": draw(HEADS, DIM, seed=7),
        "relative": draw(HEADS, 9, DIM, seed=8),
        "slopes": draw(HEADS, seed=9).abs(),
        "table": draw(HEADS, 8, seed=10),
        "pairs": draw(1, HEADS, queries, keys, seed=11),
    }


def both_ways(pattern, *, score="dot", bias="none", **others):
    """Build the dense and the blockwise function of all leaves."""

    def terms(t):
        return AttentionOptions(score=SCORES[score](t), bias=BIASES[bias](t), **others)

    def dense(t):
        offset = others.get("query_offset", 0)
        allowed = allowed_matrix(pattern, t["q"].shape[2], t["k"].shape[2], query_offset=offset)[
            None, None
        ]
        made = terms(t)
        return dense_attention(
            t["q"], t["k"], t["v"], mask=made.allowed(allowed, t["q"], t["k"]), options=made
        )[0]

    def blockwise(t):
        return blockwise_attention(t["q"], t["k"], t["v"], pattern=pattern, options=terms(t)).out

    return dense, blockwise


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    """Cut even short sequences into many groups."""
    monkeypatch.setattr(groups, "_PAIRS", 60)
    groups.plan_blocks.cache_clear()
    yield
    groups.plan_blocks.cache_clear()


def derivatives(run, tensors):
    """Compute value, gradient with a graph, without (by kernels, by operators), and HVP."""
    names = list(tensors)
    inputs = [tensors[name].clone().requires_grad_() for name in names]
    out = run(dict(zip(names, inputs, strict=True)))
    weights = draw(*out.shape, seed=20)
    taken = torch.autograd.grad((out * weights).sum(), inputs, create_graph=True, allow_unused=True)
    pairs = [(g, x) for g, x in zip(taken, inputs, strict=True) if g is not None]
    product = sum(((g * draw(*g.shape, seed=21)).sum() for g, _ in pairs), torch.zeros(()))
    second = torch.autograd.grad(product, inputs, allow_unused=True)
    first = first_order(run, names, inputs, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fused, "takes", staticmethod(lambda tensors: False))
        operators = first_order(run, names, inputs, weights)
    found = {"value": out}
    kinds = {"graph": taken, "first": first, "operators": operators, "second": second}
    for kind, grads in kinds.items():
        found |= {f"{kind} {n}": g for n, g in zip(names, grads, strict=True) if g is not None}
    return found


def first_order(run, names, inputs, weights):
    """Compute the gradient without a graph, as training does."""
    out = run(dict(zip(names, inputs, strict=True)))
    return torch.autograd.grad((out * weights).sum(), inputs, allow_unused=True)


def assert_same(pattern, tensors, **options):
    dense, blockwise = both_ways(pattern, **options)
    wanted, found = derivatives(dense, tensors), derivatives(blockwise, tensors)
    zero = {name for name, x in found.items() if name not in wanted and not x.any()}
    assert set(found) - zero == set(wanted) - (set(wanted) - set(found))
    for name, value in wanted.items():
        if name in found:
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-10, msg=name)
        else:
            assert not value.any(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "score", "bias"), covering_pairs(PATTERNS, SCORES, BIASES), ids=str
)
def test_every_pattern_score_and_bias_equals_the_definition(pattern, score, bias):
    assert_same(pattern, leaves(10, 10), score=score, bias=bias)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_lengths_segments_offset_and_dropout_equal_the_definition(pattern):
    segments = (torch.arange(20).view(2, 10) // 4 % 2, torch.arange(22).view(2, 11) // 5 % 2)
    assert_same(pattern, leaves(10, 11), lengths=torch.tensor([11, 4]))
    assert_same(pattern, leaves(10, 11), segments=segments)
    assert_same(pattern, leaves(4, 11), query_offset=7)
    assert_same(pattern, leaves(10, 11), dropout=0.4, seed=torch.tensor([7]))


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_shared_keys_and_values_equal_the_definition(pattern):
    assert_same(pattern, leaves(9, 9, kv_heads=1))


@pytest.mark.slow
@pytest.mark.parametrize("score", ["dot", "cosine", "transformer_xl"])
@pytest.mark.parametrize("pattern", [Full(), Local(2, 3)], ids=repr)
def test_shared_keys_and_values_go_with_scores_and_biases(pattern, score):
    assert_same(pattern, leaves(9, 9, kv_heads=1), score=score, bias="alibi")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    pattern=st.sampled_from(PATTERNS),
    queries=st.integers(1, 21),
    keys=st.integers(1, 21),
    offset=st.integers(0, 5),
    lengths=st.none() | st.lists(st.integers(0, 21), min_size=2, max_size=2),
)
def test_every_shape_equals_the_definition(pattern, queries, keys, offset, lengths):
    others = {} if lengths is None else {"lengths": torch.tensor(lengths).clamp(max=keys)}
    dense, blockwise = both_ways(pattern, query_offset=offset, **others)
    tensors = leaves(queries, keys)
    torch.testing.assert_close(blockwise(tensors), dense(tensors), rtol=1e-12, atol=1e-12)


FUNCTIONAL = [Causal(), Local(3, 1), Global((0, 5)) | Local(2, 0), Strided(3) & Causal()]


def functional(kind, run, tensors, weights, tangents):
    """Take one kind of derivative by `torch.func`."""

    def f(q, k, v):
        return run({**tensors, "q": q, "k": k, "v": v})

    def loss(q, k, v):
        return (f(q, k, v) * weights).sum()

    at = tuple(tensors[name] for name in "qkv")
    every = (0, 1, 2)
    many = torch.stack([at[0], at[0] * 2])
    if kind == "third":

        def first(q):
            return (grad(loss)(q, *at[1:]) * tangents[0]).sum()

        return grad(lambda q: (grad(first)(q) * tangents[0].square()).sum())(at[0])
    return {
        "grad": lambda: grad(loss, every)(*at),
        "jvp": lambda: jvp(f, at, tangents),
        "vjp": lambda: vjp(f, *at)[1](weights),
        "hessian": lambda: hessian(loss, every)(*at),
        "jacrev": lambda: jacrev(f, every)(*at),
        "jacfwd": lambda: jacfwd(f, every)(*at),
        "forward over reverse": lambda: jvp(grad(loss, every), at, tangents),
        "reverse over reverse": lambda: vjp(grad(loss, every), *at)[1](tangents),
        "reverse over forward": lambda: grad(lambda *x: jvp(loss, x, tangents)[1], every)(*at),
        "forward over forward": lambda: jvp(lambda *x: jvp(f, x, tangents)[1], at, tangents),
        "vmap": lambda: vmap(f, (0, None, None))(many, *at[1:]),
        "vmap of grad": lambda: vmap(grad(loss, every), (0, None, None))(many, *at[1:]),
    }[kind]()


KINDS = [
    "grad",
    "jvp",
    "vjp",
    "hessian",
    "jacrev",
    "jacfwd",
    "forward over reverse",
    "reverse over reverse",
    "reverse over forward",
    "forward over forward",
    "third",
    "vmap",
    "vmap of grad",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", FUNCTIONAL, ids=repr)
def test_function_transforms_equal_those_of_the_definition(pattern, kind):
    tensors = {name: x[:1, :, :6] if x.dim() == 4 else x for name, x in leaves(6, 6).items()}
    dense, blockwise = both_ways(pattern)
    weights = draw(*dense(tensors).shape, seed=30)
    tangents = tuple(draw(*tensors[name].shape, seed=31) for name in "qkv")
    found = functional(kind, blockwise, tensors, weights, tangents)
    torch.testing.assert_close(
        found, functional(kind, dense, tensors, weights, tangents), rtol=1e-9, atol=1e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize("pattern", FUNCTIONAL, ids=repr)
def test_the_derivatives_pass_the_numerical_check(pattern):
    tensors = leaves(5, 5)
    names = ("q", "k", "v", "temperature", "table")
    _, blockwise = both_ways(pattern, score="cosine", bias="t5")

    def run(*given):
        return blockwise({**tensors, **dict(zip(names, given, strict=True))})

    inputs = tuple(tensors[name][:1] if name in "qkv" else tensors[name] for name in names)
    inputs = tuple(x.clone().requires_grad_() for x in inputs)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", FUNCTIONAL, ids=repr)
def test_activation_checkpointing_changes_nothing(pattern):
    tensors = leaves(10, 10)
    _, blockwise = both_ways(pattern)

    def checkpointed(t):
        return checkpoint(blockwise, t, use_reentrant=False)

    wanted, found = derivatives(blockwise, tensors), derivatives(checkpointed, tensors)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_autocast_computes_in_its_type(pattern):
    q, k, v = (leaves(10, 10)[name].float() for name in "qkv")
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(q, k, v, pattern=pattern)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), attend(q, k, v, pattern=pattern), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_scores_of_ten_thousand_do_not_overflow(pattern, dtype):
    q = torch.full((1, 1, 12, 4), 100.0, dtype=dtype)
    k = 50 * draw(1, 1, 12, 4).sign().to(dtype)
    v = draw(1, 1, 12, 2).to(dtype)
    out = blockwise_attention(
        q.requires_grad_(),
        k,
        v,
        pattern=pattern,
        options=AttentionOptions(score=DotProduct(scale=1.0)),
    ).out
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(q.grad).all()


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_input_that_is_not_a_number_gives_output_that_is_not(pattern, name):
    tensors = leaves(10, 10)
    tensors[name][0, 0, 7] = torch.nan
    _, blockwise = both_ways(pattern)
    assert blockwise(tensors)[0, 0].isnan().any()
