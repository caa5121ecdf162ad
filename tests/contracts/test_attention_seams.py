"""What forbids a pair, what hides behind it, and numbers of any size: equal to the definition.

The definition masks first: it reads the numbers of allowed pairs and of no others.
"""

import math
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from regard.attention import (
    Alibi,
    Blocks,
    Causal,
    Cosine,
    Full,
    Global,
    Hierarchical,
    Local,
    RelativeWindow,
    Strided,
    TopK,
    alibi_slopes,
    allowed_matrix,
    attend,
)

HEADS, KV_HEADS = 2, 1
PATTERNS = [
    Full(),
    Causal(),
    Local(3, 0),
    Local(sys.maxsize, 2**70),
    Strided(5) & Causal(),
    Global((0,)) | Local(2, 1),
    Blocks.random(33, 33, 4, per_row=2, seed=1),
]
# On both sides of the thresholds: 128 x 128 pairs where the kernels apply, 512 x 512.
SMALL, LARGE = (9, 127, 128), (511, 512)
FAR = 2**32


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def definition(q, k, v, allowed, bias):
    """Compute output, weights and log-sum-exp from the allowed pairs alone."""
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, 1)[:, :, None] for x in (k, v))
    pair = allowed[..., None]
    scores = (q[:, :, :, None] * torch.where(pair, k, 0.0)).sum(-1) * q.shape[-1] ** -0.5
    scores = scores if bias is None else scores + torch.where(allowed, bias, 0.0)
    sees = allowed.any(-1, keepdim=True)
    scores = torch.where(sees, scores.masked_fill(~allowed, -math.inf), 0.0)
    weights = torch.where(allowed, scores.softmax(-1), 0.0)
    lse = torch.where(sees.squeeze(-1), scores.logsumexp(-1), -math.inf)
    return (weights[..., None] * torch.where(pair, v, 0.0)).sum(-2), weights, lse


def numbered(length, first):
    """Segments of seven positions whose numbers are equal modulo 2^32, in two rows."""
    return first + torch.arange(length) // 7 * FAR + torch.tensor([[0], [-(2**62)]])


def forbid(kind, n):
    """Return the options that forbid pairs of n queries and keys in one way, and the allowed."""
    i, j = torch.arange(n)[:, None], torch.arange(n)
    every = torch.ones(2, HEADS, n, n, dtype=torch.bool)
    if kind == "lengths":
        lengths = torch.tensor([n, n // 2])
        return {"lengths": lengths}, every & (j < lengths[:, None, None, None])
    if kind == "segments":
        numbers = numbered(n, first=3)
        return {"segments": (numbers, numbers)}, every & (
            numbers[:, None, :, None] == numbers[:, None, None]
        )
    if kind == "segments and a mask of keys":
        numbers = numbered(n, first=-(2**63) + 2**62)  # the lowest of all integers, too
        keys = (j % 5 != 1).expand(2, 1, 1, n)
        same = numbers[:, None, :, None] == numbers[:, None, None]
        return {"segments": (numbers, numbers), "mask": keys}, every & same & keys
    if kind == "mask":
        mask = (draw(2, 1, n, n, seed=5) > 0).index_fill(2, torch.tensor([3]), False)
        return {"mask": mask}, every & mask
    if kind == "mask of keys":
        mask = (draw(2, 1, 1, n, seed=5) > 0) & torch.tensor([True, False]).view(2, 1, 1, 1)
        return {"mask": mask}, every & mask
    if kind == "bias":  # strictly causal: the first query sees nothing
        bias = draw(2, 1, n, n, seed=6).masked_fill(j >= i, -math.inf)
        return {"bias": bias}, every & (j < i)
    bias = draw(2, 1, 1, n, seed=6).masked_fill(j % 4 == 2, -math.inf)
    return {"bias": bias}, every & (j % 4 != 2)


KINDS = ["lengths", "segments", "segments and a mask of keys", "mask", "mask of keys", "bias"]
KINDS += ["bias of keys"]


def check(pattern, kind, n, dtype, *, hides):
    """Compare value, weights, log-sum-exp and gradients of the rows that see no hidden key."""
    options, allowed = forbid(kind, n)
    allowed = allowed & allowed_matrix(pattern, n, n)
    options = {name: x.to(dtype) if name == "bias" else x for name, x in options.items()}
    q, k, v = (draw(2, h, n, 1, seed=h, dtype=dtype) for h in (HEADS, KV_HEADS, KV_HEADS))
    is_hidden = (torch.arange(n) % 29 == 8) & torch.tensor(hides)
    sees = (allowed & is_hidden).any(-1)
    bad = [x.masked_fill(is_hidden[:, None], y) for x, y in ((k, math.nan), (v, math.inf))]
    wanted_inputs = [x.double().requires_grad_() for x in (q, k, v)]
    bias = options["bias"].double() if "bias" in options else None
    wanted, weights, lse = definition(*wanted_inputs, allowed & ~sees[..., None], bias)
    inputs = [x.clone().requires_grad_() for x in (q, *bad)]
    out = attend(*inputs, pattern=pattern, **options)
    tolerance = {torch.bfloat16: 0.05, torch.float32: 2e-5, torch.float64: 1e-11}[dtype]

    def same(found, expected):
        expected = expected.to(found.dtype)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)

    same(out[~sees], wanted[~sees])
    assert out[sees].isnan().all()
    cotangent = draw(*out.shape, seed=7).to(dtype)
    shown = torch.where(sees[..., None], 0.0, out)
    found = torch.autograd.grad((shown * cotangent).sum(), inputs)
    expected = torch.autograd.grad((wanted * cotangent.double()).sum(), wanted_inputs)
    for gradient, reference in zip(found, expected, strict=True):
        same(gradient, reference)
    if n in SMALL:
        with torch.no_grad():
            _, found = attend(q, *bad, pattern=pattern, return_weights=True, **options)
            same(found[~sees], weights[~sees])
            _, found = attend(q, *bad, pattern=pattern, return_lse=True, **options)
            same(found[~sees], lse[~sees])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_what_is_forbidden_is_never_read(pattern, kind):
    for n in SMALL:
        check(pattern, kind, n, torch.float32, hides=True)
    check(pattern, kind, 128, torch.bfloat16, hides=True)
    check(pattern, kind, 128, torch.float64, hides=False)


@pytest.mark.parametrize("kind", ["segments", "bias", "mask of keys"])
@pytest.mark.parametrize("pattern", [PATTERNS[3], PATTERNS[5]], ids=repr)
def test_what_is_forbidden_is_never_read_at_the_larger_threshold(pattern, kind):
    for n in LARGE:
        check(pattern, kind, n, torch.float32, hides=n == LARGE[1])


@pytest.mark.parametrize("n", [5, 200, 600])
@pytest.mark.parametrize("pattern", [Full(), Causal(), Local(2, 2), TopK(2)], ids=repr)
def test_scores_below_minus_1e30_are_scores(pattern, n):
    q, v = draw(1, 1, n, 2, dtype=torch.float32), draw(1, 1, n, 2, seed=1, dtype=torch.float32)
    mask = torch.ones(n, n, dtype=torch.bool).tril(n // 2)
    bias = torch.full((n, n), torch.finfo(torch.float32).min).requires_grad_()
    out = attend(q * 0, q, v, pattern=pattern, bias=bias, mask=mask)
    torch.testing.assert_close(out, attend(q * 0, q, v, pattern=pattern, mask=mask))
    out.sum().backward()
    assert bias.grad.isfinite().all()


@pytest.mark.parametrize("n", [6, 600])
def test_strides_and_blocks_may_have_any_size(n):
    q, k, v = (draw(1, 1, n, 2, seed=seed) for seed in range(3))
    torch.testing.assert_close(attend(q, k, v, pattern=Strided(10**30)), v)
    whole = attend(q, k, v)
    torch.testing.assert_close(attend(q, k, v, pattern=Hierarchical(2**62)), whole)
    torch.testing.assert_close(attend(q, k, v, pattern=TopK(10**30)), whole)


def test_segments_of_narrow_types_go_with_a_mask_of_keys():
    q, k, v = (draw(1, 1, 200, 2, seed=seed) for seed in range(3))
    numbers = (torch.arange(200)[None] % 200 // 100 * 255).to(torch.uint8)
    mask = (torch.arange(200) % 3 > 0).view(1, 1, 1, 200)
    found = attend(q, k, v, segments=(numbers, numbers), mask=mask)
    same = numbers[:, None, :, None] == numbers[:, None, None, :]
    torch.testing.assert_close(found, attend(q, k, v, mask=mask & same))


EMPTY = [(0, 2, 5, 4), (2, 0, 5, 4), (2, 2, 0, 4), (2, 2, 5, 0), (0, 2, 600, 4), (2, 2, 600, 0)]
EVERY_KIND = [*PATTERNS, TopK(2), Hierarchical(64), RelativeWindow(0.1, 0.1)]


@pytest.mark.parametrize("pattern", EVERY_KIND, ids=repr)
def test_empty_batches_heads_lengths_and_dims_give_empty_outputs(pattern):
    for shape in EMPTY:
        x = torch.zeros(shape, requires_grad=True)
        lengths = torch.zeros(shape[0], dtype=torch.long)
        out = attend(x, x, x, pattern=pattern) + attend(x, x, x, pattern=pattern, lengths=lengths)
        out.sum().backward()
        assert out.shape == x.grad.shape == shape


def test_without_dimensions_all_scores_are_equal():
    q, v = torch.zeros(1, 1, 3, 0), torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1)
    assert attend(q, q, v).flatten().tolist() == [3.0, 3.0, 3.0]
    assert attend(q, q, v, score=Cosine(2.0)).flatten().tolist() == [3.0, 3.0, 3.0]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", EVERY_KIND, ids=repr)
def test_tensors_without_numbers_give_shapes_and_types(pattern):
    for n in (4, 600):
        x = torch.empty(2, 2, n, 4, device="meta", dtype=torch.bfloat16)
        lengths = torch.empty(2, dtype=torch.long, device="meta")
        out = attend(x, x, x, pattern=pattern, lengths=lengths)
        assert (out.shape, out.dtype, out.device.type) == (x.shape, x.dtype, "meta")
        with FakeTensorMode():
            x = torch.randn(2, 2, n, 4, requires_grad=True)
            out = attend(x, x, x, pattern=pattern)
            (gradient,) = torch.autograd.grad(out.sum(), x)
            assert (out.shape, gradient.shape) == (x.shape, x.shape)


@pytest.mark.parametrize("pattern", EVERY_KIND, ids=repr)
def test_the_default_device_is_not_that_of_the_inputs(pattern):
    for n in (4, 200):
        q, k, v = (draw(1, 2, n, 2, seed=seed) for seed in range(3))
        wanted = attend(q, k, v, pattern=pattern)
        torch.set_default_device("meta")
        try:
            assert torch.equal(attend(q, k, v, pattern=pattern), wanted)
        finally:
            torch.set_default_device(None)


@pytest.mark.parametrize("n", [4, 200])
def test_float64_stays_under_autocast_as_in_pytorch(n):
    q, k, v = (draw(1, 2, n, 2, seed=seed) for seed in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(q, k, v, pattern=Local(5, 0), bias=Alibi(alibi_slopes(2)))
    assert torch.equal(out, attend(q, k, v, pattern=Local(5, 0), bias=Alibi(alibi_slopes(2))))
