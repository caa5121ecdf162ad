"""Masks, biases that broadcast and the log-sum-exp equal the definition, whatever the method."""

import math
from itertools import product

import pytest
import torch
from tests.covering import covering_pairs
from torch.func import vmap

from regard.attention import (
    Alibi,
    Causal,
    Cosine,
    DotProduct,
    Full,
    Global,
    Hierarchical,
    Local,
    RelativeWindow,
    Strided,
    TopK,
    allowed_matrix,
    attend,
)
from regard.errors import ConfigError, ShapeError

BATCH, HEADS, KV_HEADS, DIM = 2, 2, 1, 3
PATTERNS = [
    Full(),
    Causal(),
    Local(9, 4),
    (Local(9, 0) | Global((0,))) & Causal(),
    Strided(7),
    RelativeWindow(0.1, 0.05),
]
# Below and above each threshold: 128 x 128 where the kernels apply, 512 x 512 pairs.
SIZES = [(20, 20), (130, 140), (520, 530)]
MASKS = {
    "pairs of a head": (BATCH, HEADS, True, True),
    "pairs": (True, True),
    "keys": (BATCH, 1, 1, True),
    "keys of a head": (HEADS, 1, True),
    "queries": (BATCH, 1, True, 1),
    "one": (1,),
}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fill(shape, queries, keys):
    """Put the numbers of queries and keys where a shape says True."""
    axes = list(shape)
    for axis, number in ((-1, keys), (-2, queries)):
        if len(axes) >= -axis and axes[axis] is True:
            axes[axis] = number
    return axes


def inputs(queries, keys):
    return (
        draw(BATCH, HEADS, queries, DIM, seed=1),
        draw(BATCH, KV_HEADS, keys, DIM, seed=2),
        draw(BATCH, KV_HEADS, keys, DIM, seed=3),
    )


def definition(q, k, v, *, pattern, mask=None, bias=None, lengths=None, segments=None, score=None):
    """Compute output and log-sum-exp by their definitions, with nothing of ours but the pattern."""
    queries, keys = q.shape[2], k.shape[2]
    allowed = torch.ones(q.shape[0], HEADS, queries, keys, dtype=torch.bool)
    for row in range(q.shape[0]):
        valid = keys if lengths is None else int(lengths[row])
        allowed[row] &= allowed_matrix(pattern.resolve(queries, valid), queries, keys)
        allowed[row, :, :, valid:] = False
    if mask is not None:
        allowed = allowed & mask
    if segments is not None:
        allowed = allowed & (segments[0][:, None, :, None] == segments[1][:, None, None, :])
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, dim=1) for x in (k, v))
    scores = (q @ k.transpose(-1, -2)) / math.sqrt(DIM)
    if score is not None:
        scores = score(q, k, None, None, score.tensors())
    if isinstance(bias, torch.Tensor):
        allowed = allowed & (bias != -math.inf)
        scores = scores + bias.masked_fill(~(bias.detach() > -math.inf), 0.0)
    elif bias is not None:
        positions = torch.arange(queries)[:, None], torch.arange(keys)[None]
        scores = scores + bias(*positions, bias.tensors())
    sees = allowed.any(-1)
    scores = scores.masked_fill(~allowed, -1e300)
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp() * allowed * sees[..., None]
    return weights @ v, lse.masked_fill(~sees, -math.inf)


def derivatives(run, leaves, *, order=2):
    """Compute value, gradient and products of higher derivatives with fixed directions."""
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    outputs = [x for x in run(*leaves) if x is not None]
    value = sum(
        (x.masked_fill(x == -math.inf, 0.0) * draw(*x.shape, seed=9 + i)).sum()
        for i, x in enumerate(outputs)
    )
    found = list(outputs)
    found += torch.autograd.grad(value, leaves, retain_graph=True)  # the first-order method
    for level in range(order):
        grads = torch.autograd.grad(value, leaves, create_graph=True)
        found += grads
        value = sum((g * draw(*g.shape, seed=20 + level)).sum() for g in grads)
    return found


def assert_same(run, wanted, leaves, *, order=2):
    for ours, theirs in zip(
        derivatives(run, leaves, order=order), derivatives(wanted, leaves, order=order), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "kind", "size"), covering_pairs(PATTERNS, MASKS, SIZES), ids=str
)
def test_a_mask_with_every_pattern_on_both_sides_of_every_threshold(pattern, kind, size):
    mask = draw(*fill(MASKS[kind], *size), seed=5) > -0.5
    lengths = torch.tensor([size[1], size[1] // 2])
    options = {"pattern": pattern, "mask": mask, "lengths": lengths}
    attended = {**options, "lengths": (None, lengths)}
    order = 3 if size == SIZES[0] else 2 if kind == "pairs" else 1
    assert_same(
        lambda *x: (attend(*x, **attended),),
        lambda *x: definition(*x, **options)[:1],
        inputs(*size),
        order=order,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "size"),
    [*product(PATTERNS, SIZES[:2]), (Local(9, 4), SIZES[2]), (Strided(7), SIZES[2])],
    ids=str,
)
def test_the_log_sum_exp_and_its_derivatives(pattern, size):
    mask = draw(BATCH, 1, *size, seed=5) > -0.5
    mask[0, 0, 3] = False
    for chosen in (None, mask):
        options = {"pattern": pattern, "mask": chosen}
        _, lse = attend(*inputs(*size), return_lse=True, **options)
        assert lse.dtype == torch.float64
        assert (lse[0, :, 3] == -math.inf).all() == (chosen is not None)
        assert_same(
            lambda *x, options=options: attend(*x, return_lse=True, **options),
            lambda *x, options=options: definition(*x, **options),
            inputs(*size),
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "size"),
    [*product(MASKS, SIZES[:2]), ("pairs of a head", SIZES[2]), ("keys", SIZES[2])],
    ids=str,
)
def test_a_bias_broadcasts_and_minus_infinity_forbids(kind, size):
    bias = draw(*fill(MASKS[kind], *size), seed=5)
    hole = bias < -1.0
    leaves = [*inputs(*size), bias]

    def run(q, k, v, bias):
        masked = bias.masked_fill(hole, -math.inf)
        return (attend(q, k, v, pattern=Local(9, 4), bias=masked),)

    def wanted(q, k, v, bias):
        masked = bias.masked_fill(hole, -math.inf)
        return definition(q, k, v, pattern=Local(9, 4), bias=masked)[:1]

    assert_same(run, wanted, leaves)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("others", ["alibi", "cosine", "segments"])
def test_a_mask_goes_with_biases_scores_and_segments(others, size):
    options = {
        "alibi": {"bias": Alibi(draw(HEADS).abs())},
        "cosine": {"score": Cosine(draw(HEADS))},
        "segments": {"segments": tuple(torch.arange(n).expand(BATCH, n) // 9 for n in size)},
    }[others]
    for shape in ((BATCH, HEADS, *size), (BATCH, 1, 1, size[1])):
        mask = draw(*shape, seed=5) > -0.5
        assert_same(
            lambda *x, mask=mask: (attend(*x, pattern=Local(20, 3), mask=mask, **options),),
            lambda *x, mask=mask: definition(*x, pattern=Local(20, 3), mask=mask, **options)[:1],
            inputs(*size),
            order=1 if size == SIZES[2] else 2,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "value", "size"),
    covering_pairs([*PATTERNS, TopK(5)], [math.inf, -math.inf, math.nan], SIZES),
    ids=str,
)
def test_what_is_not_finite_reaches_those_that_may_see_it_only(pattern, value, size):
    mask = draw(BATCH, HEADS, *size, seed=5) > -0.5
    mask[:, :, 2] = False  # a query that sees nothing
    mask[:, :, :, 6] = False  # a key that nobody sees
    clean = inputs(*size)
    spoilt = [x.clone() for x in clean]
    spoilt[0][:, :, 2, 1] = value
    spoilt[1][:, :, 6, 0] = value
    spoilt[2][:, :, 6, 2] = value
    bias = torch.zeros(1, 1, *size, dtype=torch.float64).expand(BATCH, HEADS, *size)
    bias = bias.masked_fill(~mask, value)
    grads = []
    for given, chosen in ((clean, None), (spoilt, bias)):
        leaves = [x.clone().requires_grad_() for x in given]
        out = attend(*leaves, pattern=pattern, mask=mask, bias=chosen)
        grads.append([out, *torch.autograd.grad((out * draw(*out.shape)).sum(), leaves)])
    for ours, theirs in zip(grads[1], grads[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    if isinstance(pattern, TopK):
        return
    spoilt[1][0, 0, 4, 0] = value
    out = attend(*spoilt, pattern=pattern, mask=mask)
    sees = allowed_matrix(pattern, *size)[:, 4] & mask[0, :, :, 4]
    assert torch.equal(out[0].isnan().all(-1), sees)
    assert torch.equal(out[0].isnan().any(-1), sees)
    assert torch.isfinite(out[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "size"),
    [*product([*PATTERNS, TopK(5)], SIZES), *product([Hierarchical(4)], SIZES[:2])],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*with a mask of pairs")
def test_a_query_with_nothing_allowed_gets_zeros_and_zero_gradients(pattern, size):
    queries, keys = (size[1], size[1]) if isinstance(pattern, Hierarchical) else size
    nothing = torch.zeros(1, 1, queries, 1, dtype=torch.bool)
    ways = [{"mask": nothing}]
    if not isinstance(pattern, Hierarchical):
        ways.append({"bias": torch.full((keys,), -math.inf, dtype=torch.float64)})
    for way in ways:
        leaves = [x.requires_grad_() for x in inputs(queries, keys)]
        out = attend(*leaves, pattern=pattern, **way)
        assert not out.any()
        assert not any(g.any() for g in torch.autograd.grad(out.sum(), leaves))


@pytest.mark.parametrize("shape", [(BATCH, HEADS), (1, 1)])
def test_top_k_chooses_among_the_allowed(shape):
    q, k, v = inputs(20, 30)
    mask = draw(*shape, 20, 30, seed=5) > 0.5
    _, weights = attend(q, k, v, pattern=TopK(3), mask=mask, return_weights=True)
    assert not weights.masked_select(~mask.expand_as(weights)).any()
    one = attend(q, k, v, pattern=TopK(30), mask=mask)
    torch.testing.assert_close(one, definition(q, k, v, pattern=Full(), mask=mask)[0])
    assert ((weights > 0).sum(-1) == mask.sum(-1).clamp(max=3).expand(BATCH, HEADS, -1)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("length", "causal"), [(16, False), (16, True), (37, False), (37, True), (520, True)]
)
@pytest.mark.filterwarnings("ignore:.*with a mask of pairs")
def test_hierarchical_averages_the_allowed_keys(causal, length):
    q, k, v = inputs(length, length)
    lengths = torch.tensor([length, length // 2])
    keys = draw(BATCH, HEADS, 1, length, seed=5) > -0.5
    pattern = Hierarchical(4, causal=causal)
    options = {"pattern": pattern, "lengths": lengths}
    order = 1 if length < 500 else 0
    by_groups = derivatives(lambda *x: (attend(*x, mask=keys, **options),), (q, k, v), order=order)
    pairs = keys.expand(-1, -1, length, -1).clone()
    by_pairs = derivatives(lambda *x: (attend(*x, mask=pairs, **options),), (q, k, v), order=order)
    for ours, theirs in zip(by_groups, by_pairs, strict=True):
        torch.testing.assert_close(ours, theirs)
    cut = torch.arange(length) < lengths[:, None]
    same = attend(q, k, v, pattern=pattern, mask=cut[:, None, None, :], lengths=lengths)
    torch.testing.assert_close(same, attend(q, k, v, **options))
    near = Hierarchical(2 * length, causal=causal)
    mask = draw(BATCH, HEADS, length, length, seed=6) > 0
    exact = definition(q, k, v, pattern=Causal() if causal else Full(), mask=mask)[0]
    torch.testing.assert_close(attend(q, k, v, pattern=near, mask=mask), exact)


def test_a_mask_is_mapped_over():
    q, k, v = inputs(20, 20)
    masks = draw(3, 20, 20, seed=5) > 0
    together = vmap(lambda mask: attend(q, k, v, mask=mask))(masks)
    apart = torch.stack([attend(q, k, v, mask=mask) for mask in masks])
    torch.testing.assert_close(together, apart)


def test_weights_of_a_masked_call_are_those_used():
    for size in SIZES:
        q, k, v = inputs(*size)
        mask = draw(BATCH, HEADS, *size, seed=5) > 0
        out, weights = attend(q, k, v, pattern=Local(20, 0), mask=mask, return_weights=True)
        every = v.repeat_interleave(HEADS // KV_HEADS, dim=1)
        torch.testing.assert_close(weights.to_dense() @ every, out)
        assert not weights.to_dense().masked_select(~mask).any()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"mask": torch.zeros(20, 20)},
            ShapeError,
            "mask is torch.float32; expected torch.bool, True where attention is allowed.  Numbers "
            "that are added to the scores are a `bias`.",
        ),
        (
            {"bias": torch.ones(20, 30, dtype=torch.bool)},
            ShapeError,
            "bias is torch.bool; expected floating point.  A boolean choice of pairs is a `mask`, "
            "True where attention is allowed.",
        ),
        (
            {"mask": torch.ones(2, 30, dtype=torch.bool)},
            ShapeError,
            "mask has shape [2, 30]; expected one that broadcasts to [2, 2, 20, 30], [batch, "
            "heads, queries, keys].  One row of keys for each of the batch is mask[:, None, None, "
            ":].",
        ),
        (
            {"bias": torch.ones(3, 20, 30)},
            ShapeError,
            "bias has shape [3, 20, 30]; expected one that broadcasts to [2, 2, 20, 30], [batch, "
            "heads, queries, keys].",
        ),
        (
            {"return_lse": True, "return_weights": True},
            ConfigError,
            "return_lse does not go with return_weights: the weights are exp(scores - lse).  Ask "
            "for one of them.",
        ),
        (
            {"return_lse": True, "pattern": TopK(4)},
            ConfigError,
            "TopK(4) chooses keys by score and does not go with return_lse.  Every mask pattern "
            "does, such as Local(...).",
        ),
    ],
)
def test_what_cannot_be_used_is_named(options, error, message):
    with pytest.raises(error) as raised:
        attend(*inputs(20, 30), score=DotProduct(), **options)
    assert str(raised.value) == message
