"""Graphs of every family: compiled in one piece, or exported for any batch and length.

Tracing takes seconds of a CPU, so each family is traced in one of the two ways, and one in both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.contracts.test_pytorch_modules import CASES, assert_near, build, loss_of
from torch import Tensor
from torch.export import Dim

pytestmark = pytest.mark.slow

COMPILED = (
    "gpt",
    "lstm decoder",
    "conv_s2s decoder",
    "bert",
    "vit of images",
)
PARTS = (
    "transformer",
    "transformer encoder",
    "transformer decoder",
    "classifier",
    "vit of features",
)
"""Their graphs are parts of others: of the Transformer that copies, of bert, of vit of images."""
EXPORTED = ("gpt", *(name for name in CASES if name not in (*COMPILED, *PARTS)))
FED_BACK = "lstm"
"""Its decoder is fed its last output, so a graph is for one length of the target."""
FIXED = "patch_tst"
"""It reads windows of one length."""


@pytest.fixture(autouse=True)
def fresh_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def longer(inputs: tuple[Tensor, ...], *, keeps_target: bool = False) -> tuple[Tensor, ...]:
    """Return one row of another length, without padding."""
    first, *rest = (torch.cat([x] * 30, dim=1)[:1] for x in inputs)  # other methods of attention
    return (first, inputs[1][:1]) if keeps_target else (first, *rest)


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_graph_gives_the_same(name):
    case = CASES[name]
    model = build(case)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    assert_near(compiled(*case.inputs), model(*case.inputs), 1e-5)


def test_a_compiled_graph_trains_with_dropout():
    case = CASES["conv_s2s decoder"]
    model = build(case).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")

    def gradients(seed: int) -> Tensor:
        model.zero_grad()
        torch.manual_seed(seed)
        loss_of(compiled(*case.inputs)).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    assert torch.equal(gradients(1), gradients(1))
    assert not torch.equal(gradients(1), gradients(2))


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_graph_gives_the_same_for_any_batch_and_length(name):
    case = CASES[name]
    model = build(case)
    lengths = [Dim("length", min=3, max=500), Dim("target_length", min=2, max=500)]
    if name == FED_BACK:
        lengths[1] = Dim.STATIC
    if name == FIXED:
        lengths[0] = Dim.STATIC
    batch = Dim("batch", max=64)
    shapes = tuple({0: batch, 1: length} for _, length in zip(case.inputs, lengths, strict=False))
    exported = torch.export.export(model, case.inputs, dynamic_shapes=shapes).module()
    assert_near(exported(*case.inputs), model(*case.inputs), 1e-5)
    others = longer(case.inputs, keeps_target=name == FED_BACK)
    if name == FIXED:
        others = tuple(torch.cat([x, x.flip(0), x]) for x in case.inputs)
    assert_near(exported(*others), model(*others), 1e-5)
