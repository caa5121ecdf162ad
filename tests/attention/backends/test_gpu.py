"""Kernels for a GPU give the definition's value, gradient and Hessian-vector product.

Without a GPU their place is taken by what PyTorch has on a CPU: its own attention; FlexAttention as
operators, by `as_operators`, which reads the tables of blocks as the kernels do; and FlexAttention
compiled, with its gradient by operators, or without one by generated C++.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from functools import partial

import pytest
import torch
import torch.nn.attention.flex_attention as torch_flex
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.covering import covering_pairs
from torch.autograd import forward_ad
from torch.multiprocessing.reductions import StorageWeakRef
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
    dense_attention,
    dispatch,
)
from regard.attention.backends import flex, sdpa
from regard.attention.backends import gpu as backends_gpu
from regard.attention.backends.flex import block_mask, flex_attention, score_change
from regard.attention.backends.flex.block_mask import MaskSizes
from regard.attention.backends.sdpa import SdpaBackend, sdpa_attention
from regard.attention.dense import dense_lse
from regard.attention.dispatch import AttentionMethod, choose_method, collect_facts
from regard.attention.patterns.mask_algebra import MaskTerm
from regard.layers.decoding_attention import attend_everything

# The operators that stand for the kernels look at the gradients of what is not a leaf.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
HEADS, DIM = 2, 16
flex_compiled = flex_attention.compiled
PATTERNS = {
    "full": Full(),
    "causal": Causal(),
    "window": Local(3, 0),
    "band": Local(20, 33),
    "strided": Strided(3),
    "causal stride": Strided(2) & Causal(),
    "global": Global((0, 7)),
    "union": (Local(2, 0) | Global((0,)) | Strided(40)) & Causal(),
    "blocks": Blocks.random(6, 6, 30, per_row=2, seed=1) | Local(1, 1),
    "nothing": Local(1, 1) & Global(()),
}
SCORES = {
    "dot": lambda t: DotProduct(),
    "capped": lambda t: DotProduct(scale=0.7, soft_cap=2.0),
    "cosine": lambda t: Cosine(t["temperature"]),
    "fixed cosine": lambda t: Cosine(3.0, soft_cap=2.0),
    "transformer_xl": lambda t: TransformerXL(t["u"], t["w"], t["relative"], offset=4),
}
BIASES = {
    "none": lambda t: None,
    "alibi": lambda t: Alibi(t["slopes"]),
    "t5": lambda t: T5Relative(t["table"], max_distance=40),
    "tensor": lambda t: t["pairs"],
    "forbidding": lambda t: t["pairs"].masked_fill(t["pairs"].detach() > 1, -torch.inf),
}


def draw(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def leaves(queries, keys, kv_heads=HEADS, dtype=torch.float64):
    """Return everything that a derivative is taken of."""
    shapes = {
        "q": (2, HEADS, queries, DIM),
        "k": (2, kv_heads, keys, DIM),
        "v": (2, kv_heads, keys, DIM),
        "temperature": (HEADS,),
        "u": (HEADS, DIM),
        "w": (HEADS, DIM),
        "relative": (HEADS, 9, DIM),
        "slopes": (HEADS,),
        "table": (HEADS, 8),
        "pairs": (1, HEADS, queries, keys),
    }
    tensors = {
        name: draw(*shape, seed=seed, dtype=dtype)
        for seed, (name, shape) in enumerate(shapes.items())
    }
    tensors["slopes"] = tensors["slopes"].abs() / 20
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}


def as_operators(q, k, v, *, score_mod, block_mask, enable_gqa, return_aux, kernel_options):
    """Compute what FlexAttention's kernels do: blocks that are listed, by pairs or whole."""
    mask = block_mask
    block, (queries, keys) = mask.BLOCK_SIZE[0], mask.seq_lengths
    b, h, i, j = (
        torch.arange(size, device=q.device, dtype=torch.int32)
        for size in (*q.shape[:2], queries, keys)
    )
    b, h, i = b[:, None, None, None], h[:, None, None], i[:, None]
    by_pairs, whole = (
        listed(*lists, mask.kv_indices.shape[-1])
        for lists in (
            (mask.kv_num_blocks, mask.kv_indices),
            (mask.full_kv_num_blocks, mask.full_kv_indices),
        )
    )
    num_rows = mask.q_indices.shape[-1]
    for table, lists in (
        (by_pairs, (mask.q_num_blocks, mask.q_indices)),
        (whole, (mask.full_q_num_blocks, mask.full_q_indices)),
    ):
        assert torch.equal(listed(*lists, num_rows).T, table)  # as the gradient reads it
    assert not (by_pairs & whole).any()
    by_pairs, whole = (
        table.repeat_interleave(block, 0).repeat_interleave(block, 1)[:queries, :keys].to(q.device)
        for table in (by_pairs, whole)
    )
    allowed = (by_pairs & mask.mask_mod(b, h, i, j)) | whole
    repeats = q.shape[1] // k.shape[1]
    assert enable_gqa == (repeats > 1)
    k, v = (x.repeat_interleave(repeats, 1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if score_mod is not None:
        scores = score_mod(scores, b, h, i, j)
    out, _ = dense_attention(q, k, v, mask=allowed.expand(scores.shape), scores=scores)
    if return_aux is None:
        return out
    lse = scores.masked_fill(~allowed, -1e30).logsumexp(-1)
    return out, torch_flex.AuxOutput(lse.masked_fill(~allowed.any(-1), -torch.inf))


def listed(numbers, indices, width):
    """Return a table ``[rows, width]``, True where a block is listed."""
    table, indices = torch.zeros(indices.shape[2], width, dtype=torch.bool), indices.cpu()
    for row, number in enumerate(numbers[0, 0].tolist()):
        table[row, indices[0, 0, row, :number].long()] = True
    return table


@contextmanager
def as_on_gpu():
    """Choose as on a GPU, for all numbers of pairs, and compute by operators."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "computes_on_gpu", lambda q: True)
        patch.setattr(dispatch, "DENSE_BELOW", 2)
        patch.setattr(dispatch, "DENSE_BELOW_KERNELS", 2)
        patch.setattr(backends_gpu, "DENSE_BELOW_KERNELS", 2)
        patch.setattr(flex_attention, "compiled", lambda: as_operators)
        patch.setattr(flex_attention, "_FAILURES", {})
        patch.setattr(flex_attention, "_DTYPES", {*flex_attention._DTYPES, torch.float64})
        yield patch
    dispatch.warn_once.cache_clear()


@pytest.fixture
def gpu():
    with as_on_gpu() as patch:
        yield patch


def by_definition(tensors, pattern, options):
    """Compute output and log-sum-exp in float64."""
    q, k, v = (tensors[name] for name in "qkv")
    allowed = allowed_matrix(pattern, q.shape[2], k.shape[2], query_offset=options.query_offset)
    mask = options.allowed(allowed[None, None], q, k)
    out = dense_attention(q, k, v, mask=mask, options=options)[0]
    return out, dense_lse(q, k, mask=mask, options=options)


def derivatives(outputs, tensors):
    """Return outputs, the gradient of every tensor, with and without a graph, and an HVP."""
    inputs = list(tensors.values())
    total = sum((x * draw(*x.shape, seed=30, dtype=x.dtype)).sum() for x in outputs)

    def gradients(of, **options):
        return torch.autograd.grad(
            of, inputs, allow_unused=True, materialize_grads=True, retain_graph=True, **options
        )

    first = gradients(total)
    with_graph = gradients(total, create_graph=True)
    product = sum((x * draw(*x.shape, seed=31, dtype=x.dtype)).sum() for x in with_graph)
    return [*outputs, *first, *with_graph, *gradients(product)]


def check(pattern, score="dot", bias="none", *, queries=40, keys=50, kv_heads=HEADS, **options):
    """Compare value, gradient and Hessian-vector product with the definition."""
    returns_lse = options.pop("returns_lse", False)
    tensors = leaves(queries, keys, kv_heads)
    options |= {"score": SCORES[score](tensors), "bias": BIASES[bias](tensors)}
    q, k, v = (tensors[name] for name in "qkv")
    outputs = attend(q, k, v, pattern=pattern, return_lse=returns_lse, **options)
    outputs = outputs if returns_lse else (outputs,)
    offset = options.get("query_offset", 0)
    if not offset or allowed_matrix(pattern, queries, keys, query_offset=offset).any():  # or zeros
        assert type(outputs[0].grad_fn).__name__ == "_FirstOrderBackward"
    expected = by_definition(tensors, pattern, AttentionOptions(**options))[: 1 + returns_lse]
    torch.testing.assert_close(
        derivatives(outputs, tensors), derivatives(expected, tensors), rtol=1e-8, atol=1e-9
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "score", "bias"), covering_pairs(list(PATTERNS), list(SCORES), list(BIASES))
)
def test_every_pattern_score_and_bias_equals_the_definition(gpu, pattern, score, bias):
    check(PATTERNS[pattern], score, bias)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    queries=st.integers(2, 300),
    keys=st.integers(2, 300),
    offset=st.sampled_from([0, 0, 1, 40, 127, 128]),
    pattern=st.sampled_from(list(PATTERNS)),
    bias=st.sampled_from(list(BIASES)),
    limits=st.sampled_from(["", "lengths", "segments", "mask", "lengths segments mask"]),
    kv_heads=st.sampled_from([1, 2]),
    returns_lse=st.booleans(),
)
def test_drawn_lengths_masks_and_offsets_equal_the_definition(
    queries, keys, offset, pattern, bias, limits, kv_heads, returns_lse
):
    generator = torch.Generator().manual_seed(queries)
    segments = tuple(torch.randint(3, (2, n), generator=generator) for n in (queries, keys))
    mask = torch.rand(2, 1, queries, keys, generator=generator) < 0.7
    with as_on_gpu():
        check(
            PATTERNS[pattern],
            bias=bias,
            queries=queries,
            keys=keys,
            kv_heads=kv_heads,
            returns_lse=returns_lse,
            query_offset=offset,
            lengths=torch.tensor([keys, keys // 2]) if "lengths" in limits else None,
            segments=segments if "segments" in limits else None,
            mask=mask if "mask" in limits else None,
        )


@pytest.mark.parametrize("pattern", [Full(), Causal()], ids=repr)
def test_plain_patterns_are_computed_by_pytorch_and_equal_the_definition(gpu, pattern):
    gpu.setattr(flex_attention, "compiled", None)
    check(pattern, keys=40)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pattern", [Full(), Local(20, 0)], ids=repr)
def test_half_precision_is_as_near_as_its_rounding(gpu, pattern, dtype):
    tensors = leaves(200, 200, dtype=dtype)
    out = attend(*(tensors[name] for name in "qkv"), pattern=pattern)
    assert out.dtype == dtype
    out.float().sum().backward()
    wide = {name: x.detach().double().requires_grad_() for name, x in tensors.items()}
    expected = by_definition(wide, pattern, AttentionOptions())[0]
    expected.sum().backward()
    torch.testing.assert_close(out.double(), expected, rtol=0.02, atol=0.02)
    for name in "qkv":
        torch.testing.assert_close(
            tensors[name].grad.double(), wide[name].grad, rtol=0.05, atol=0.03
        )


COMPILED = [
    ("window", "dot", "none", {}),
    ("causal", "dot", "alibi", {"lengths": torch.tensor([50, 0])}),
    ("union", "cosine", "t5", {}),
    ("blocks", "transformer_xl", "none", {"returns_lse": True}),
    ("band", "capped", "forbidding", {"mask": torch.ones(2, 1, 40, 50).tril().bool()}),
    (
        "full",
        "dot",
        "none",
        {"segments": (torch.arange(80).view(2, 40) // 9, torch.arange(100).view(2, 50) // 9)},
    ),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("pattern", "score", "bias", "options"), COMPILED)
def test_flex_attention_itself_takes_the_call(gpu, pattern, score, bias, options):
    """Compiled, with operators for its kernels, its gradients of score and bias too."""
    torch._dynamo.reset()
    gpu.setattr(torch_flex, "_validate_device", lambda *_: None)
    compiled = torch.compile(
        torch_flex.flex_attention, backend="aot_eager", dynamic=True, fullgraph=True
    )
    gpu.setattr(flex_attention, "compiled", lambda: compiled)
    check(PATTERNS[pattern], score, bias, **dict(options))
    assert not flex_attention._FAILURES
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("pattern", "bias", "lengths"),
    [  # few, as the compiler of C++ works for ten seconds on each; the first lists whole blocks too
        ("causal", "alibi", torch.tensor([260, 131])),
        ("blocks", "tensor", None),
    ],
)
def test_generated_kernels_compute_the_listed_blocks(gpu, pattern, bias, lengths):
    """Those for a CPU, which have no gradient; one serves two lengths."""
    torch._dynamo.reset()
    flex_compiled.cache_clear()
    gpu.setattr(flex_attention, "compiled", flex_compiled)
    for queries, keys in ((300, 260), (200, 261)):
        tensors = {name: x.detach().float() for name, x in leaves(queries, keys).items()}
        options = {"bias": BIASES[bias](tensors), "lengths": lengths}
        out = attend(*(tensors[name] for name in "qkv"), pattern=PATTERNS[pattern], **options)
        expected = by_definition(tensors, PATTERNS[pattern], AttentionOptions(**options))[0]
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    assert not flex_attention._FAILURES
    flex_compiled.cache_clear()
    torch._dynamo.reset()


@pytest.mark.parametrize(("score", "bias"), [("dot", "none"), ("capped", "alibi")])
def test_an_infinite_key_reaches_the_queries_that_see_it(gpu, score, bias):
    """Its weight would be 0, and the cap would take it for a low score."""
    tensors = {name: x.detach() for name, x in leaves(200, 200).items()}
    tensors["q"], tensors["k"][0, 1, 50, 3] = tensors["q"].abs(), -torch.inf
    options = AttentionOptions(score=SCORES[score](tensors), bias=BIASES[bias](tensors))
    out = flex.attend(*(tensors[name] for name in "qkv"), pattern=Local(3, 0), options=options)[0]
    assert out[0, 1, 50:54].isnan().all()
    assert out.isnan().sum() == 4 * DIM


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_infinite_score_is_not_a_number_when_compiled():
    """The compiler drops, for example, a product with 0."""
    scores = torch.tensor([-torch.inf, 0.0, torch.inf, 3.0e38, -2.5])
    _, _, change = score_change.change_score(
        *(torch.zeros(1, 1, 1, DIM) for _ in range(2)), AttentionOptions()
    )
    changed = torch.compile(change)(scores, *[torch.zeros(1)] * 4)
    expected = torch.tensor([torch.nan, 0.0, torch.nan, 3.0e38, -2.5])
    torch.testing.assert_close(changed, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kinds_of_calls_have_a_limit_of_their_own(gpu):
    """PyTorch's is lower, and others that compile FlexAttention may have reached it."""
    torch._dynamo.reset()
    flex_compiled.cache_clear()
    gpu.setattr(torch_flex, "_validate_device", lambda *_: None)
    gpu.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    gpu.setattr(flex_attention, "compiled", flex_compiled)
    q = draw(1, 1, 30, DIM, seed=1)
    with torch._dynamo.config.patch(recompile_limit=2):
        others = torch.compile(torch_flex.flex_attention, dynamic=False)
        for length in (20, 30):
            others(*[q[:, :, :length]] * 3)
        for name in ("window", "strided", "causal stride", "global"):
            out = attend(q, q, q, pattern=PATTERNS[name])
            expected = by_definition(dict.fromkeys("qkv", q), PATTERNS[name], AttentionOptions())
            torch.testing.assert_close(out, expected[0])
    assert not flex_attention._FAILURES
    flex_compiled.cache_clear()
    torch._dynamo.reset()


def test_more_kinds_of_calls_than_are_compiled_are_computed_block_by_block(gpu):
    from torch._dynamo.exc import FailOnRecompileLimitHit

    def full(*_, **__):
        raise FailOnRecompileLimitHit("recompile_limit reached")

    gpu.setattr(flex_attention, "compiled", lambda: full)
    q = draw(1, 1, 30, DIM, seed=1)
    expected = by_definition({"q": q, "k": q, "v": q}, Local(3, 1), AttentionOptions())[0]
    torch.testing.assert_close(attend(q, q, q, pattern=Local(3, 1)), expected)
    with pytest.warns(UserWarning, match="more than 64 kinds of calls"):
        torch.testing.assert_close(attend(q, q, q, pattern=Local(3, 1)), expected)


def test_where_keys_are_computed_from_queries_each_has_its_own_cotangent(gpu):
    q = draw(1, 1, 30, DIM, seed=1).requires_grad_()
    gradients = []
    for run in (
        lambda q: attend(q, q * 2, q, pattern=Local(3, 1)),
        lambda q: by_definition({"q": q, "k": q * 2, "v": q}, Local(3, 1), AttentionOptions())[0],
    ):
        first = torch.autograd.grad(run(q).square().sum(), q, create_graph=True)[0]
        gradients.append((first, torch.autograd.grad(first.square().sum(), q)[0]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_second_backward_pass_gives_the_same_gradient(gpu):
    q = draw(1, 1, 30, DIM, seed=1).requires_grad_()
    loss = attend(q, q, q, pattern=Local(3, 1)).square().sum()
    first = torch.autograd.grad(loss, q, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, q)[0], first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, q)


def test_activation_checkpointing_gives_the_same_gradient_and_keeps_nothing(gpu):
    q = draw(1, 1, 30, DIM, seed=1).requires_grad_()
    memory = []

    def run(q):
        k = q.sin()
        memory.append(StorageWeakRef(k.untyped_storage()))
        return attend(q, k, k, pattern=Local(3, 1)).square().sum()

    loss = checkpoint(run, q, use_reentrant=False)
    assert memory[0].expired()
    gradient = torch.autograd.grad(loss, q)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(run(q), q)[0])


def test_transforms_and_dual_numbers_are_left_to_the_recursion(gpu):
    q = draw(1, 1, 30, DIM, seed=1)

    def run(q):
        return attend(q, q, q, pattern=Local(3, 1))

    def definition(q):
        return by_definition({"q": q, "k": q, "v": q}, Local(3, 1), AttentionOptions())[0]

    def tangent(function):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(function(forward_ad.make_dual(q, q.sin()))).tangent

    for transform in (
        lambda f: torch.func.jvp(f, (q,), (q.sin(),))[1],
        lambda f: torch.func.grad(lambda q: f(q).square().sum())(q),
        tangent,
    ):
        torch.testing.assert_close(transform(run), transform(definition))


def test_many_cotangents_at_once_are_left_to_the_recursion(gpu):
    q = draw(1, 1, 30, DIM, seed=1).requires_grad_()
    out = attend(q, q, q, pattern=Local(3, 1))
    cotangents = torch.stack([out.detach(), out.detach().sin()])
    many = torch.autograd.grad(out, q, cotangents, is_grads_batched=True, retain_graph=True)[0]
    for gradient, cotangent in zip(many, cotangents, strict=True):
        one = torch.autograd.grad(out, q, cotangent, retain_graph=True)[0]
        torch.testing.assert_close(gradient, one)


def failing(*_, **__):
    """Raise what PyTorch raises where there is no compiler."""
    raise torch._dynamo.exc.BackendCompilerFailed("inductor", RuntimeError("no compiler"), None)


class FailsInGradient(torch.autograd.Function):
    """The identity, whose gradient cannot be compiled."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        failing()


@pytest.mark.parametrize("part", ["value", "gradient"])
def test_where_no_kernel_can_be_made_the_recursion_computes_and_that_is_said(gpu, part):
    def compute(*args, **kwargs):
        return (
            failing() if part == "value" else FailsInGradient.apply(as_operators(*args, **kwargs))
        )

    gpu.setattr(flex_attention, "compiled", lambda: compute)
    tensors = {name: leaves(40, 50)[name] for name in "qkv"}
    expected = torch.autograd.grad(
        by_definition(tensors, Local(3, 0), AttentionOptions())[0].square().sum(),
        list(tensors.values()),
    )

    def gradients():
        out = attend(*tensors.values(), pattern=Local(3, 0))
        return torch.autograd.grad(out.square().sum(), list(tensors.values()))

    torch.testing.assert_close(gradients(), expected)
    gpu.setattr(flex_attention, "compiled", None)  # it is not tried again
    with pytest.warns(UserWarning, match=r"block by block.*\(RuntimeError: no compiler\)"):
        torch.testing.assert_close(gradients(), expected)
    gradients()  # without another warning, which would be an error


def test_a_python_that_the_compiler_does_not_support_is_computed_block_by_block(gpu):
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported on Python 3.99+")

    gpu.setattr(torch, "compile", refuse)
    gpu.setattr(flex_attention, "compiled", flex_compiled)
    flex_compiled.cache_clear()
    tensors = {name: leaves(40, 50)[name] for name in "qkv"}
    out = attend(*tensors.values(), pattern=Local(3, 0))
    expected = by_definition(tensors, Local(3, 0), AttentionOptions())[0]
    torch.testing.assert_close(out, expected)
    with pytest.warns(UserWarning, match=r"block by block.*not supported on Python 3\.99"):
        attend(*tensors.values(), pattern=Local(3, 0))


def test_other_errors_are_raised(gpu):
    def compute(*_, **__):
        raise torch.OutOfMemoryError("out of memory")

    gpu.setattr(flex_attention, "compiled", lambda: compute)
    q = draw(1, 1, 30, DIM, seed=1)
    with pytest.raises(torch.OutOfMemoryError, match=r"^out of memory$"):
        attend(q, q, q, pattern=Local(3, 1))


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"score": Additive(torch.ones(HEADS, DIM))}, "the score Additive"),
        ({"dropout": 0.1, "seed": torch.tensor([1])}, "dropout of weights"),
        ({"key_positions": torch.arange(5)}, "positions of keys"),
        (
            {
                "score": TransformerXL(
                    torch.ones(1, DIM), torch.ones(1, DIM), torch.ones(1, 1025, DIM)
                )
            },
            "a table of more than 1024 distances",
        ),
    ],
)
def test_what_flex_attention_cannot_express_is_named(options, refusal):
    q = torch.zeros(1, HEADS, 5, DIM)
    assert flex.refusal(q, q, AttentionOptions(**options)) == refusal


def test_flex_attention_takes_types_and_heads_of_its_kernels():
    q = torch.zeros(1, HEADS, 5, DIM)
    assert flex.refusal(q, q, AttentionOptions()) is None
    assert flex.refusal(q.double(), q.double(), AttentionOptions()) == "numbers of torch.float64"
    narrow = q[..., :8]
    assert flex.refusal(narrow, q, AttentionOptions()) == "heads of fewer than 16 dimensions"


@pytest.mark.parametrize(
    ("score", "bias", "is_learned", "is_refused"),
    [
        ("dot", "tensor", True, True),
        ("dot", "t5", True, True),
        ("dot", "t5", False, False),
        ("transformer_xl", "none", True, True),
        ("transformer_xl", "none", False, False),
        ("cosine", "none", True, False),
        ("dot", "none", True, False),
    ],
)
def test_gradients_that_its_kernels_add_in_any_order_are_not_for_runs_that_repeat_their_bits(
    score, bias, is_learned, is_refused
):
    """The kernels add what they read for a pair atomically, and PyTorch does not refuse that."""
    tensors = {name: x.detach() for name, x in leaves(5, 5, dtype=torch.float32).items()}
    tensors = {name: x.requires_grad_(is_learned) for name, x in tensors.items()}
    options = AttentionOptions(score=SCORES[score](tensors), bias=BIASES[bias](tensors))
    reason = "gradients of a bias or a table in a fixed order"
    torch.use_deterministic_algorithms(True)
    try:
        refusal = flex.refusal(tensors["q"], tensors["v"], options)
        assert refusal == (reason if is_refused else None)
        with torch.no_grad():
            assert flex.refusal(tensors["q"], tensors["v"], options) is None
    finally:
        torch.use_deterministic_algorithms(False)
    assert flex.refusal(tensors["q"], tensors["v"], options) is None


def test_a_slower_method_on_a_gpu_is_said_once(gpu):
    q = draw(1, 1, 30, DIM, seed=1)
    with pytest.warns(UserWarning, match="FlexAttention does not take the score Additive"):
        attend(q, q, q, pattern=Local(3, 1), score=Additive(torch.ones(1, DIM, dtype=q.dtype)))
    attend(q, q, q, pattern=Local(3, 1), score=Additive(torch.ones(1, DIM, dtype=q.dtype)))


@pytest.mark.parametrize(
    ("pattern", "length", "options", "method"),
    [
        (Full(), 1, {}, AttentionMethod.DENSE),
        (Full(), 2, {}, AttentionMethod.SDPA),
        (Causal(), 600, {}, AttentionMethod.SDPA),
        (Causal(), 600, {"query_offset": 1}, AttentionMethod.FLEX),
        (Causal(), 600, {"lengths": torch.tensor([600])}, AttentionMethod.FLEX),
        (Causal(), 600, {"bias": torch.zeros(1, 1, 600, 600)}, AttentionMethod.FLEX),
        (Causal(), 600, {"score": DotProduct(soft_cap=3.0)}, AttentionMethod.FLEX),
        (Local(9, 0), 200, {}, AttentionMethod.DENSE),
        (Local(9, 0), 600, {}, AttentionMethod.FLEX),
    ],
    ids=str,
)
def test_a_gpu_has_methods_that_a_cpu_does_not_have(monkeypatch, pattern, length, options, method):
    q = torch.zeros(1, HEADS, length, DIM)

    def choose():
        facts = collect_facts(
            q, q, q, AttentionOptions(**options), returns_weights=False, returns_lse=False
        )
        return choose_method(pattern, facts)

    assert choose() in (AttentionMethod.DENSE, AttentionMethod.BLOCKWISE)
    monkeypatch.setattr(dispatch, "computes_on_gpu", lambda q: True)
    monkeypatch.setattr(dispatch.Fused, "takes", staticmethod(lambda tensors: False))
    assert choose() is method


@pytest.mark.parametrize("kv_heads", [HEADS, 1])
@pytest.mark.parametrize("name", ["full", "causal"])
def test_few_pairs_take_pytorchs_kernel_and_have_all_derivatives(monkeypatch, name, kv_heads):
    monkeypatch.setattr(dispatch, "computes_on_gpu", lambda q: True)
    monkeypatch.setattr(dispatch.Fused, "takes", staticmethod(lambda tensors: False))
    monkeypatch.setattr(sdpa, "_has_fused_kernel", lambda q, k: True)
    heads = {"q": HEADS, "k": kv_heads, "v": kv_heads}
    tensors = {
        name: draw(2, heads[name], 20, DIM, seed=seed).requires_grad_()
        for seed, name in enumerate("qkv")
    }
    out = attend(**tensors, pattern=PATTERNS[name])
    assert type(out.grad_fn).__name__ == "_FirstOrderBackward"
    expected, _ = by_definition(tensors, PATTERNS[name], AttentionOptions())
    torch.testing.assert_close(
        derivatives([out], tensors), derivatives([expected], tensors), rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("shape", [(65_536, 1), (1, 65_536)])
def test_more_rows_than_a_grid_has_are_computed_by_the_definition(monkeypatch, shape):
    """PyTorch's kernels end in an error there."""
    q = torch.zeros(*shape, 2, DIM, device="meta", dtype=torch.bfloat16)
    assert not SdpaBackend.takes(MaskTerm(), q, q, q, AttentionOptions())
    assert flex.refusal(q, q, AttentionOptions()) == "as many rows or heads"
    fits = q[:65_535, :65_535]
    assert SdpaBackend.takes(MaskTerm(), fits, fits, fits, AttentionOptions())
    assert flex.refusal(fits, fits, AttentionOptions()) is None


@pytest.mark.parametrize(
    ("score", "bias", "num_stages"),
    [
        ("dot", "none", None),
        ("capped", "none", None),
        ("dot", "alibi", 2),
        ("transformer_xl", "none", None),
        ("dot", "tensor", 1),
        ("transformer_xl", "t5", 2),
    ],
)
def test_a_kernel_that_reads_numbers_of_pairs_loads_fewer_tiles_ahead(gpu, score, bias, num_stages):
    """With those numbers, three tiles do not fit on a chip."""
    options = []

    def kernels(*tensors, **given):
        options.append(given["kernel_options"])
        return as_operators(*tensors, **given)

    gpu.setattr(flex_attention, "compiled", lambda: kernels)
    check(PATTERNS["causal"], score, bias)
    expected = None if num_stages is None else {"num_stages": num_stages}
    assert options
    assert all(given == expected for given in options)


@pytest.mark.parametrize(
    ("dim", "dtype", "has_bias", "memory", "expected"),
    [
        (128, torch.float32, False, 101_376, {"fwd_num_stages": 1}),
        (128, torch.float32, True, 101_376, {"num_stages": 2, "fwd_num_stages": 1}),
        (128, torch.float32, False, 166_912, None),
        (64, torch.float32, False, 101_376, None),
        (128, torch.bfloat16, False, 101_376, None),
    ],
)
def test_a_chip_with_less_memory_loads_fewer_wide_tiles_ahead(
    gpu, dim, dtype, has_bias, memory, expected
):
    gpu.setattr(flex_attention, "shared_memory", lambda device: memory)
    options = []

    def kernels(q, k, v, **given):
        options.append(given["kernel_options"])
        return q, None

    gpu.setattr(flex_attention, "compiled", lambda: kernels)
    q = torch.zeros(1, HEADS, 40, dim, dtype=dtype)
    bias = Alibi(torch.ones(HEADS)) if has_bias else None
    flex.attend(q, q, q, pattern=Causal(), options=AttentionOptions(bias=bias))
    assert options == [expected]


def test_the_log_sum_exp_is_left_to_flex_attention(gpu):
    q = torch.zeros(1, HEADS, 600, DIM)
    facts = collect_facts(q, q, q, AttentionOptions(), returns_weights=False, returns_lse=True)
    assert choose_method(Full(), facts) is AttentionMethod.FLEX


@pytest.mark.slow
def test_a_compiled_graph_on_a_gpu_holds_pytorchs_own_attention(gpu):
    torch._dynamo.reset()
    q, k, v = (draw(1, HEADS, 40, DIM, seed=seed).requires_grad_() for seed in range(3))
    names = []

    def backend(module, _):
        names.extend(str(node.target) for node in module.graph.nodes)
        return module

    def run(q, k, v):
        return attend(q, k, v, pattern=Causal())

    out = torch.compile(run, backend=backend, fullgraph=True)(q, k, v)
    assert any("scaled_dot_product_attention" in name for name in names)
    expected = by_definition({"q": q, "k": k, "v": v}, Causal(), AttentionOptions())[0]
    torch.testing.assert_close(out, expected)
    torch._dynamo.reset()


def test_what_inference_mode_has_cached_serves_training(gpu):
    block_mask._tables_on_device.cache_clear()
    block_mask._pattern_mask.cache_clear()
    q = draw(1, 1, 30, DIM, seed=1).requires_grad_()
    with torch.inference_mode():
        expected = attend(q, q, q, pattern=Local(3, 1) | Global((2,)))
    out = attend(q, q, q, pattern=Local(3, 1) | Global((2,)))
    out.sum().backward()
    assert torch.equal(out, expected)
    assert not block_mask._tables_on_device(
        (Local(3, 1) | Global((2,))).terms(), MaskSizes(30, 30, 0), False, q.device
    )[0].is_inference()


@pytest.mark.slow
def test_a_cpu_imports_no_part_of_it():
    script = """
import sys, torch
from regard.attention import Local, attend
q = torch.ones(1, 1, 600, 16, requires_grad=True)
attend(q, q, q, pattern=Local(9, 0)).sum().backward()
print([name for name in sys.modules if name in ("triton", "torch.nn.attention.flex_attention")])
"""
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


def asks_cudnn(monkeypatch, compute, *tensors):
    """Return whether PyTorch's attention may take cuDNN within a computation, and after it."""
    asked = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def note(*arguments, **options):
        asked.append(torch.backends.cuda.cudnn_sdp_enabled())
        return attention(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", note)
    compute(*(tensor.as_subclass(OnGpu) for tensor in tensors))
    return [*asked, torch.backends.cuda.cudnn_sdp_enabled()]


@pytest.mark.parametrize(
    ("is_generating", "length", "is_deterministic", "is_planned"),
    [
        (False, 200, False, True),
        (True, 200, False, False),
        (False, 5, False, False),
        (False, 200, True, False),
    ],
)
def test_cudnn_plans_for_shapes_of_training_that_return(
    monkeypatch, is_generating, length, is_deterministic, is_planned
):
    """Not for a prompt or a sentence, nor where a resumed run would have to count on."""
    monkeypatch.setattr(sdpa, "_calls", Counter())
    torch.use_deterministic_algorithms(is_deterministic)

    def attend_often(*tensors):
        for _ in range(sdpa._CALLS_BEFORE_PLAN + 1):
            sdpa_attention(*tensors, score=DotProduct(), is_causal=True)

    q = torch.randn(1, 2, length, 8)
    try:
        with torch.inference_mode(is_generating):
            asked = asks_cudnn(monkeypatch, attend_often, q, q, q)
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [*[False] * sdpa._CALLS_BEFORE_PLAN, is_planned, True]


def test_shapes_that_never_return_are_not_counted_for_ever(monkeypatch):
    monkeypatch.setattr(sdpa, "_calls", Counter(range(sdpa._MOST_SHAPES + 1)))
    q = torch.randn(1, 2, 200, 8).as_subclass(OnGpu)
    sdpa_attention(q, q, q, score=DotProduct(), is_causal=True)
    assert list(sdpa._calls.values()) == [1]


@pytest.mark.parametrize("num_kv_heads", [2, 1])
def test_a_step_of_decoding_makes_no_plan_of_cudnn(monkeypatch, num_kv_heads):
    q, k = torch.randn(1, 2, 1, 8), torch.randn(1, num_kv_heads, 7, 8)
    assert asks_cudnn(monkeypatch, attend_everything, q, k, k) == [False, True]
