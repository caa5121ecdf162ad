"""Every side of ``regard bench attention`` computes the same."""

import pytest
import torch

from regard.bench.peers import (
    Case,
    Computation,
    Implementation,
    Operands,
    Skipped,
    build_implementation,
)

PATTERNS = ["full", "causal", "local:16", "local:16|global:0", "strided:4"]


@pytest.mark.parametrize("is_decoder", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", ["sdpa", "local-attention"])
def test_a_peer_computes_what_we_compute(name, pattern, is_decoder):
    case = Case(pattern=pattern, length=64, num_heads=2, dim=8, is_decoder=is_decoder)
    peer, ours = build_implementation(name, case), build_implementation("regard", case)
    assert isinstance(ours, Implementation)
    if isinstance(peer, Skipped):
        pytest.skip(peer.reason)
    operands = Operands(case)
    for order in peer.orders:
        expected = Computation(ours, operands, order)()
        found = Computation(peer, operands, order)()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # float32, other order


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("regard.bench.peers.find_spec", lambda name: None)
    found = build_implementation("local-attention", Case(pattern="local:8", length=32))
    assert isinstance(found, Skipped)
    assert found.reason == "not installed: pip install local-attention"


def test_a_mask_too_large_is_not_made():
    found = build_implementation("sdpa", Case(pattern="local:8", length=32768))
    assert isinstance(found, Skipped)
    assert found.reason == "a mask of 32,768 x 32,768 does not fit"
