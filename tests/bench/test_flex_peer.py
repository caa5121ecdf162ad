"""FlexAttention in ``regard bench attention``: no noise, and compiled in every case."""

import functools

import pytest
import torch

from regard.bench.peers import Case, Computation, Implementation, Operands, build_implementation

# torch's compiler defines scripted modules when it is imported
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


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
