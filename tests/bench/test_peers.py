"""Every side of ``regard bench attention`` computes the same, FlexAttention compiled."""

import functools

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
# torch's compiler defines scripted modules when it is imported
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


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


@pytest.mark.slow
def test_the_mask_of_a_set_of_positions_is_made_without_a_warning():
    found = build_implementation(
        "flex", Case(pattern="local:8|global:0", length=64, num_heads=1, dim=8)
    )
    assert isinstance(found, Implementation)


@pytest.mark.slow
def test_cases_beyond_the_limit_of_compilations_are_compiled_too(monkeypatch):
    from torch._inductor import config  # takes a second

    compile_ = torch.compile
    # That vector instructions compile is not what is tested, and asking the compiler takes 9 s.
    with (
        torch._dynamo.config.patch(recompile_limit=1),
        config.patch({"cpp.vec_isa_ok": True}),
    ):
        # The first case counts towards the limit, whatever its backend.
        for length, backend in ((128, "eager"), (256, "inductor")):
            monkeypatch.setattr(torch, "compile", functools.partial(compile_, backend=backend))
            case = Case(pattern="local:8", length=length, num_heads=1, dim=16)
            side = build_implementation("flex", case)
            assert isinstance(side, Implementation)
            try:
                # Uncompiled it would warn, and warnings are errors.
                Computation(side, Operands(case), "forward")()
            except RuntimeError as error:
                pytest.skip(f"nothing is compiled here: {str(error)[:80]}")
