"""A pattern made from public names works as those of the library do."""

from dataclasses import dataclass

import pytest
import torch

from regard.attention import (
    PATTERNS,
    Causal,
    LengthDependentPattern,
    Local,
    MaskPattern,
    MaskTerm,
    allowed_matrix,
    attend,
    format_pattern,
    parse_pattern,
)
from regard.errors import ConfigError


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
def test_it_equals_the_same_mask_in_value_and_derivatives(pattern, length):
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


def test_a_line_in_the_registry_reads_it(monkeypatch):
    monkeypatch.setitem(PATTERNS, "prefix", Prefix)
    pattern = parse_pattern("prefix:3|local:2", is_decoder=True)
    assert pattern == (Prefix(3) | Local(2, 0)) & Causal()
    assert format_pattern(pattern) == "(prefix:3|local:2,0)&causal"
    with pytest.raises(ConfigError, match="hierarchical:B, prefix:N, joined"):
        parse_pattern("prefixx")


def test_without_a_text_form_it_says_so():
    with pytest.raises(ConfigError, match=r"HalfPrefix\(\) has no text form"):
        format_pattern(HalfPrefix() | Causal())
