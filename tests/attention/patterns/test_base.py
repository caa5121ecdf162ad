"""Patterns: what they allow, their terms, what they cost, what they refuse; one of your own."""

import math
import operator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from regard.attention import (
    PATTERNS,
    LengthDependentPattern,
    MaskPattern,
    attend,
    format_pattern,
    parse_pattern,
)
from regard.attention.patterns import (
    Blocks,
    Causal,
    Full,
    Global,
    Hierarchical,
    Local,
    Strided,
    TopK,
)
from regard.attention.patterns.base import Pattern, allowed_matrix
from regard.attention.patterns.cost import Cost
from regard.attention.patterns.hierarchical import hierarchical_attention
from regard.attention.patterns.mask_algebra import MaskTerm, simplify
from regard.attention.patterns.top_k import top_k_attention
from regard.errors import ConfigError, ShapeError

SINGLE = st.one_of(
    st.just(Full()),
    st.just(Causal()),
    st.builds(Local, st.integers(0, 4), st.integers(0, 4)),
    st.builds(Strided, st.integers(1, 4)),
    st.builds(Global, st.lists(st.integers(0, 9), max_size=3)),
    st.builds(
        lambda rows, columns, size, seed: Blocks.random(
            rows, columns, size, per_row=min(2, columns), seed=seed
        ),
        *(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99)),
    ),
)
MASKS = st.recursive(
    SINGLE,
    lambda inner: st.builds(
        lambda left, right, either: left | right if either else left & right,
        *(inner, inner, st.booleans()),
    ),
    max_leaves=5,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# What each mask allows


@pytest.mark.parametrize(
    ("pattern", "allows"),
    [
        (Strided(3), lambda i, j: (i - j) % 3 == 0),
        (Global([4, 1]), lambda i, j: i in (1, 4) or j in (1, 4)),
        (Global([]), lambda i, j: False),
        (Local(2, 1), lambda i, j: i - 2 <= j <= i + 1),
        (
            Blocks([[True, False], [False, True]], 2),
            lambda i, j: i < 4 and j < 4 and i // 2 == j // 2,
        ),
    ],
    ids=["strided", "global", "global of none", "local", "blocks"],
)
def test_a_mask_allows_the_pairs_of_its_definition(pattern, allows):
    expected = [[allows(i, j) for j in range(7)] for i in range(2, 8)]
    assert allowed_matrix(pattern, 6, 7, query_offset=2).tolist() == expected


@pytest.mark.slow
@given(pattern=MASKS, queries=st.integers(1, 9), keys=st.integers(1, 9), offset=st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_the_clauses_of_a_mask_allow_the_same_pairs(pattern, queries, keys, offset):
    expected = allowed_matrix(pattern, queries, keys, query_offset=offset)
    i, j = torch.arange(offset, offset + queries)[:, None], torch.arange(keys)[None, :]
    found = torch.zeros(queries, keys, dtype=torch.bool)
    for term in pattern.terms():
        found |= term.allowed(i, j)
    assert torch.equal(found, expected)


@pytest.mark.slow
@given(pattern=MASKS, queries=st.integers(1, 12), keys=st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_a_mask_counts_its_pairs_exactly(pattern, queries, keys):
    assert pattern.cost(queries, keys).pairs == int(allowed_matrix(pattern, queries, keys).sum())


@given(pattern=MASKS, shape=st.sampled_from([(5,), (2, 3), (1, 4, 1)]))
@settings(max_examples=50, deadline=None)
def test_positions_of_any_shape_broadcast(pattern, shape):
    queries = torch.arange(math.prod(shape)).reshape(shape)
    pairs = [pattern.allowed(i, i).item() for i in queries.flatten()]
    assert pattern.allowed(queries, queries).flatten().tolist() == pairs
    assert pattern.allowed(queries, queries).shape == shape


@given(pattern=MASKS)
def test_a_mask_is_a_hashable_pattern(pattern):
    assert isinstance(pattern, Pattern)
    assert len({pattern, pattern & Full()}) == 2


def test_global_positions_are_kept_sorted_and_distinct():
    assert Global(iter([5, 0, 5])) == Global((0, 5))
    assert repr(Global([5, 0])) == "Global(positions=(0, 5))"


def test_a_table_of_blocks_may_be_a_tensor():
    assert Blocks(torch.eye(2, dtype=torch.bool), 3) == Blocks([[True, False], [False, True]], 3)
    assert repr(Blocks(torch.eye(2), 3)) == "Blocks(<2 x 2 blocks, 2 allowed>, size=3)"


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 99), data=st.data())
def test_random_blocks_keep_as_many_a_row_and_the_diagonal(rows, columns, seed, data):
    per_row = data.draw(st.integers(1, columns))
    pattern = Blocks.random(rows, columns, 4, per_row=per_row, seed=seed)
    assert [sum(row) for row in pattern.mask] == [per_row] * rows
    assert all(pattern.mask[i][i] for i in range(min(rows, columns)))
    assert pattern == Blocks.random(rows, columns, 4, per_row=per_row, seed=seed)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Local(-1, 0), "Local(before=-1, after=0): both must be 0 or more."),
        (lambda: Strided(0), "Strided(stride=0): the stride must be 1 or more."),
        (lambda: Global([3, -2]), "Global(positions=(-2, 3)): all must be 0 or more."),
        (lambda: Blocks([[True]], 0), "Blocks(size=0): the size must be 1 or more."),
        (
            lambda: Blocks([], 1),
            "Blocks(mask=[]): the table must have a row and a column or more.",
        ),
        (
            lambda: Blocks([[True], [True, False]], 1),
            "Blocks(mask=...): its rows have 1 to 2 cells; all must have as many.",
        ),
        (
            lambda: Blocks.random(2, 3, 1, per_row=4, seed=0),
            "Blocks.random(per_row=4): it must be 1 to 3, the number of key blocks.",
        ),
        (lambda: TopK(0), "TopK(k=0): k must be 1 or more."),
        (lambda: Hierarchical(3), "Hierarchical(block=3): the block must be even, 2 or more."),
    ],
)
def test_an_argument_out_of_range_is_refused(build, message):
    with pytest.raises(ConfigError) as raised:
        build()
    assert str(raised.value) == message


# Clauses


def test_a_union_of_bands_is_one_band():
    assert (Local(3, 0) | Local(1, 2)).terms() == (MaskTerm(before=3, after=2),)
    assert (Causal() | Local(1, 2)).terms() == (MaskTerm(before=None, after=2),)


def test_an_intersection_narrows_every_part():
    pattern = Causal() & Local(50, 2) & Strided(4) & Strided(6)
    assert pattern.terms() == (MaskTerm(before=50, after=0, stride=12),)
    rows = (Global([1, 3]) & Global([3, 5])).terms()
    assert set(rows) == {
        MaskTerm(queries=(3,)),
        MaskTerm(keys=(3,)),
        MaskTerm(queries=(1, 3), keys=(3, 5)),
        MaskTerm(queries=(3, 5), keys=(1, 3)),
    }


def test_a_band_shorter_than_its_stride_is_the_diagonal():
    assert (Local(2, 1) & Strided(3)).terms() == (MaskTerm(before=0, after=0),)


def test_a_contained_clause_is_dropped():
    assert (Local(1, 1) | Full()).terms() == (MaskTerm(),)
    assert (Strided(4) | Strided(2)).terms() == (MaskTerm(stride=2),)
    assert (Local(0, 0) & Strided(3) | Local(0, 0)).terms() == (MaskTerm(before=0, after=0),)


def test_clauses_that_differ_in_their_positions_are_merged():
    assert (Global([0]) | Global([5])).terms() == Global([0, 5]).terms()


def test_an_empty_set_leaves_no_clause():
    assert Global([]).terms() == ()
    assert simplify([MaskTerm(queries=(1,)) & MaskTerm(queries=(2,))]) == ()


@pytest.mark.slow
@given(left=SINGLE, right=SINGLE)
def test_a_clause_contains_only_what_it_allows(left, right):
    i, j = torch.arange(12)[:, None], torch.arange(12)[None, :]
    for first in left.terms():
        assert first.contains(first)
        for second in right.terms():
            if first.contains(second):
                assert not (second.allowed(i, j) & ~first.allowed(i, j)).any()


# Cost


def test_the_cost_of_a_window_is_linear_in_the_length():
    assert Local(255, 0).cost(10_000, 10_000) == Cost(
        pairs=2_527_360, flops=2 * 2_527_360 * 128, bytes=4 * 20_000 * 128
    )


def test_long_sequences_are_counted_without_the_matrix():
    pattern = Causal() & (Local(63, 0) | Global([0]) | Blocks.random(64, 64, 64, per_row=1, seed=0))
    window, first = 64 * 65 // 2 + (4096 - 64) * 64, 4096 - 64
    diagonal = 64 * (64 * 65 // 2)  # the blocks lie inside the window
    assert diagonal < window
    assert pattern.cost(4096, 4096).pairs == window + first


def test_values_of_another_size_are_counted():
    assert Full().cost(3, 5, dim=2, value_dim=4, itemsize=2) == Cost(15, 2 * 15 * 6, 2 * 8 * 6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 3, 8])
def test_top_k_counts_the_chosen_pairs_and_scores_all(causal, length):
    cost = TopK(3, causal=causal).cost(length, 8, dim=2)
    _, weights = top_k_attention(
        draw(1, 1, length, 8),
        draw(1, 1, 8, 1),
        3,
        allowed_matrix(TopK(3, causal=causal), length, 8),
    )
    assert cost.pairs == int((weights > 0).sum())
    assert cost.flops == 2 * length * 8 * 4


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 4, 5, 8, 13, 27, 64])
def test_hierarchical_counts_each_group_once(causal, length):
    pattern = Hierarchical(4, causal=causal)
    scored = {
        (level, i if causal else i >> level, j >> level)
        for i in range(length)
        for j in range(length)
        if (level := pattern.level(i, j)) is not None
    }
    assert pattern.cost(length, length).pairs == len(scored)


def test_the_cost_of_hierarchical_attention_is_linear():
    short, long = (Hierarchical(16).cost(n, n).pairs for n in (1024, 4096))
    assert long <= 4.3 * short


def test_hierarchical_refuses_cross_attention():
    with pytest.raises(ShapeError) as raised:
        Hierarchical(4).cost(3, 5)
    assert str(raised.value) == (
        "Hierarchical(4) is self-attention; expected as many queries as keys, got 3 and 5."
    )


# Patterns that are no masks


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            TopK(8),
            "TopK(8) chooses keys by score: it is not a mask and does not compose with | or &.",
        ),
        (
            Hierarchical(4, causal=True),
            "Hierarchical(4, causal=True) averages distant keys: it is not a mask and does not "
            "compose with | or &.",
        ),
    ],
)
@pytest.mark.parametrize(
    "compose",
    [
        lambda p: p | Causal(),
        lambda p: Causal() | p,
        lambda p: p & Causal(),
        lambda p: (Causal() | Full()) & p,
    ],
)
def test_a_pattern_that_is_no_mask_does_not_compose(pattern, message, compose):
    with pytest.raises(TypeError) as raised:
        compose(pattern)
    assert str(raised.value) == message


def test_a_mask_composes_with_patterns_only():
    with pytest.raises(TypeError, match="unsupported operand"):
        operator.or_(Causal(), 3)


@pytest.mark.parametrize("kind", [TopK, Hierarchical])
def test_a_pattern_that_is_no_mask_tells_the_pairs_it_draws_from(kind):
    pattern, causal = kind(4), kind(4, causal=True)
    assert isinstance(pattern, Pattern)
    assert allowed_matrix(pattern, 4, 4).all()
    assert torch.equal(allowed_matrix(causal, 4, 4), allowed_matrix(Causal(), 4, 4))
    assert len({pattern, causal, kind(4, causal=True)}) == 2


# Top-k


@given(k=st.integers(1, 6), queries=st.integers(1, 4), keys=st.integers(1, 5), data=st.data())
@settings(deadline=None)
def test_top_k_is_the_softmax_over_the_best_allowed_keys(k, queries, keys, data):
    scores, v = draw(1, 1, queries, keys), draw(1, 1, keys, 2, seed=1)
    flags = st.lists(st.booleans(), min_size=queries * keys, max_size=queries * keys)
    allowed = torch.tensor(data.draw(flags)).reshape(queries, keys)
    output, weights = top_k_attention(scores, v, k, allowed)
    for i in range(queries):
        candidates = [j for j in range(keys) if allowed[i, j]]
        best = sorted(candidates, key=lambda j, i=i: -scores[0, 0, i, j])[:k]
        expected = torch.zeros(keys, dtype=torch.float64)
        if best:
            expected[best] = scores[0, 0, i, best].softmax(0)
        torch.testing.assert_close(weights[0, 0, i], expected)
    torch.testing.assert_close(output, weights @ v)


def test_top_k_of_all_keys_is_full_attention():
    scores, v = draw(2, 3, 4, 5), draw(2, 3, 5, 2, seed=1)
    output, weights = top_k_attention(scores, v, 9)
    torch.testing.assert_close(weights, scores.softmax(-1))
    torch.testing.assert_close(output, scores.softmax(-1) @ v)


def test_the_derivatives_of_top_k_are_exact():
    scores, v = draw(1, 2, 4, 5).requires_grad_(), draw(1, 2, 5, 3, seed=1).requires_grad_()
    allowed = allowed_matrix(Causal(), 4, 5, query_offset=-1)  # the first query sees nothing

    def run(scores, v):
        return top_k_attention(scores, v, 2, allowed)[0]

    assert gradcheck(run, (scores, v))
    assert gradgradcheck(run, (scores, v))
    assert (run(scores, v)[:, :, 0] == 0).all()


# Hierarchical


def hierarchical_dense(q, k, v, *, block, causal, scale, lengths=None):
    """The definition: the n x n scores, each from the averages of its pair's level, one softmax."""
    batch, heads, n, _ = q.shape
    pattern = Hierarchical(block, causal=causal)
    output = torch.zeros(batch, heads, n, v.shape[3], dtype=q.dtype)
    for b in range(batch):
        valid = n if lengths is None else int(lengths[b])

        def mean(x, i, level, b=b, valid=valid):
            start = i >> level << level
            return x[b, :, start : min(start + (1 << level), valid)].mean(1)  # [heads, dim]

        for i in range(valid):
            seen = [j for j in range(valid) if pattern.level(i, j) is not None]
            scores = [
                (mean(q, i, 0 if causal else level, b) * mean(k, j, level, b)).sum(-1) * scale
                for j in seen
                if (level := pattern.level(i, j)) is not None
            ]
            weights = torch.stack(scores, -1).softmax(-1)  # [heads, seen]
            output[b, :, i] = (weights[..., None] * v[b][:, seen]).sum(1)
    return output


@pytest.mark.slow
@given(
    length=st.integers(1, 35),
    block=st.sampled_from([2, 4, 6]),
    causal=st.booleans(),
    lengths=st.none() | st.tuples(st.integers(0, 35), st.integers(0, 35)),
)
@settings(max_examples=60, deadline=None)
def test_hierarchical_attention_equals_its_definition(length, block, causal, lengths):
    q, k, v = (draw(2, 2, length, dim, seed=dim) for dim in (3, 3, 2))
    k = k.flip(2)
    lengths = None if lengths is None else torch.tensor(lengths).clamp(max=length)
    arguments = {"block": block, "causal": causal, "scale": 0.7, "lengths": lengths}
    torch.testing.assert_close(
        hierarchical_attention(q, k, v, **arguments),
        hierarchical_dense(q, k, v, **arguments),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 7, 8])
def test_hierarchical_attention_is_exact_up_to_two_blocks(causal, length):
    q, k, v = (draw(2, 2, length, 3, seed=seed) for seed in range(3))
    output = hierarchical_attention(q, k, v, block=4, causal=causal, scale=1.0)
    scores = q @ k.transpose(-1, -2)
    if causal:
        scores = scores.masked_fill(~allowed_matrix(Causal(), length, length), -torch.inf)
    torch.testing.assert_close(output, scores.softmax(-1) @ v)


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_the_derivatives_of_hierarchical_attention_are_exact(causal):
    q, k, v = (draw(2, 1, 9, 1, seed=seed).requires_grad_() for seed in range(3))

    def run(q, k, v):
        lengths = torch.tensor([8, 0])
        return hierarchical_attention(q, k, v, block=2, causal=causal, scale=0.5, lengths=lengths)

    assert gradcheck(run, (q, k, v))
    assert gradgradcheck(run, (q, k, v))


@given(length=st.integers(2, 40), data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_future_leaks_into_causal_hierarchical_attention(length, data):
    now = data.draw(st.integers(0, length - 2))
    inputs = [draw(1, 1, length, 3, seed=seed) for seed in range(3)]
    changed = [x.clone() for x in inputs]
    for x in changed:
        x[:, :, now + 1 :] += 5.0
    before, after = (
        hierarchical_attention(*x, block=2, causal=True, scale=1.0) for x in (inputs, changed)
    )
    torch.testing.assert_close(before[:, :, : now + 1], after[:, :, : now + 1], rtol=0, atol=0)


def test_forward_derivatives_of_hierarchical_attention_agree_with_backward():
    q, k, v = (draw(1, 1, 9, 2, seed=seed) for seed in range(3))

    def run(q):
        return hierarchical_attention(q, k, v, block=2, causal=False, scale=1.0).square().sum()

    derivative = torch.func.jvp(run, (q,), (k,))[1]
    torch.testing.assert_close(derivative, (torch.func.grad(run)(q) * k).sum())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hierarchical_attention_of_large_scores_does_not_overflow(dtype):
    x = torch.full((1, 1, 40, 4), 100.0, dtype=dtype)
    output = hierarchical_attention(x, x, x, block=2, causal=False, scale=1.0)
    assert output.dtype == dtype
    assert (output == 100).all()


def test_non_finite_keys_give_non_finite_output():
    q, k, v = (draw(1, 1, 20, 2, seed=seed) for seed in range(3))
    k[0, 0, 0] = math.nan
    output = hierarchical_attention(q, k, v, block=2, causal=False, scale=1.0)
    assert output.isnan().any(-1).all()


# One of your own


@dataclass(frozen=True)
class Prefix(MaskPattern):
    length: int

    synopsis = "prefix:N"
    text_form = "prefix:N (positions), e.g. prefix:3"

    @classmethod
    def from_text(cls, arguments, *, is_decoder):
        return cls(int(arguments))

    def to_text(self):
        return f"prefix:{self.length}"

    def allowed(self, queries, keys):
        return (keys <= queries) | (keys < self.length)

    def terms(self):
        return (MaskTerm(after=0), MaskTerm(keys=tuple(range(self.length))))


@dataclass(frozen=True)
class HalfPrefix(LengthDependentPattern):
    def resolve(self, num_queries, num_keys):
        return Prefix(num_keys // 2)


@pytest.mark.slow
@pytest.mark.parametrize("length", [20, 140, 530])
@pytest.mark.parametrize(
    "pattern", [Prefix(3), Prefix(3) & Local(9, 9), HalfPrefix(), HalfPrefix() | Causal()], ids=repr
)
def test_an_own_pattern_equals_its_mask_in_value_and_derivatives(pattern, length):
    generator = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 1, 2, length, 4, generator=generator, dtype=torch.float64)
    mask = allowed_matrix(pattern, length, length)
    results = []
    for options in ({"pattern": pattern}, {"mask": mask}):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = attend(*leaves, **options)
        first = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        results.append([out, *first, *second])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    assert pattern.cost(length, length).pairs == int(mask.sum())


def test_a_line_in_the_registry_reads_an_own_pattern(monkeypatch):
    monkeypatch.setitem(PATTERNS, "prefix", Prefix)
    pattern = parse_pattern("prefix:3|local:2", is_decoder=True)
    assert pattern == (Prefix(3) | Local(2, 0)) & Causal()
    assert format_pattern(pattern) == "(prefix:3|local:2,0)&causal"
    with pytest.raises(ConfigError, match="hierarchical:B, prefix:N, joined"):
        parse_pattern("prefixx")


def test_a_pattern_without_a_text_form_says_so():
    with pytest.raises(ConfigError, match=r"HalfPrefix\(\) has no text form"):
        format_pattern(HalfPrefix() | Causal())


def test_a_pattern_with_other_pairs_than_its_base_loses_the_text_form_of_it():
    @dataclass(frozen=True)
    class Late(Causal):
        """Keys three positions ago, or earlier."""

        def allowed(self, queries, keys):
            return keys <= queries - 3

        def terms(self):
            return (MaskTerm(after=-3),)

    @dataclass(frozen=True)
    class Named(Causal):
        """Causal by another name."""

    assert Late().to_text() is None
    assert (Late() | Local(1, 0)).to_text() is None
    assert Named().to_text() == "causal"
    assert (Causal() | Local(1, 0)).to_text() == "causal|local:1,0"


@dataclass(frozen=True)
class _Window(MaskPattern):
    """A window whose `terms` are given, right or wrong."""

    parts: tuple[MaskTerm, ...]
    as_numbers: bool = False

    def allowed(self, queries, keys):
        allowed = (keys <= queries) & (queries - keys < 4)
        return allowed.float() if self.as_numbers else allowed

    def terms(self):
        return self.parts


def test_a_pattern_of_your_own_is_checked_pair_by_pair():
    _Window((MaskTerm(before=3, after=0),)).check()
    _Window((MaskTerm(before=1, after=0), MaskTerm(before=3, after=0))).check()
    with pytest.raises(ConfigError, match=r"allow query 4 and key 0, allowed does not \(7,750 of"):
        _Window((MaskTerm(after=0),)).check()
    with pytest.raises(ConfigError, match="terms forbid query 0 and key 0"):
        _Window(()).check(8)
    with pytest.raises(ConfigError, match=r"check\(0\): the number of positions must be 1"):
        _Window(()).check(0)
    with pytest.raises(ShapeError, match=r"allowed returned torch\.float32, \[8, 8\]"):
        _Window((MaskTerm(after=0),), as_numbers=True).check(8)


@pytest.mark.parametrize("text", ["full", "local:3,0|global:1", "strided:3&causal", "local:0.1"])
def test_patterns_of_the_package_say_the_same_in_both_ways(text):
    parse_pattern(text).check(40)
