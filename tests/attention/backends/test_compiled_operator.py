"""`attend` inside ``torch.compile``: one graph, first derivative, the same numbers."""

import pytest
import torch

from regard.attention import Causal, DotProduct, Full, Global, Local, Strided, attend


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("length", [40, 600])
@pytest.mark.parametrize(
    ("pattern", "others"),
    [
        (Full(), {}),
        (Causal(), {"score": DotProduct(soft_cap=5.0)}),
        ((Local(20, 0) | Global((0,))) & Causal(), {"lengths": torch.tensor([30, 7])}),
        (Strided(9), {"segments": True}),
    ],
    ids=repr,
)
def test_the_compiled_graph_is_whole_and_equals_the_eager_call(pattern, others, length):
    q, k, v = (torch.randn(2, 2, length, 8, requires_grad=True) for _ in range(3))
    if "segments" in others:
        others = {"segments": (torch.arange(length).expand(2, -1) // 10,) * 2}

    def run(q, k, v):
        return attend(q, k, v, pattern=pattern, **others).sin()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    wanted, found = run(q, k, v), compiled(q, k, v)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), (q, k, v)), torch.autograd.grad(wanted.sum(), (q, k, v))
    )
