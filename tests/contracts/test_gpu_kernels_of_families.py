"""Every family takes the methods of a GPU for attention, and computes what the definition does.

The device is a pretended one, with operators in the place of FlexAttention's kernels.
"""

from __future__ import annotations

import copy
from inspect import getclosurevars

import pytest
import torch
from tests.attention.backends import test_gpu
from tests.contracts import test_decoders, test_encoders, test_families
from tests.contracts.test_devices import FAMILIES
from tests.pretended_gpu import DEVICE, PretendedGpu
from torch import Tensor

from regard.attention.backends.flex import flex_attention

INPUTS = {
    "encoder-decoder": (test_families, (test_families.SOURCE, test_families.TARGET)),
    "decoder": (test_decoders, (test_decoders.IDS,)),
    "encoder": (test_encoders, (test_encoders.IDS,)),
}
LENGTHS = {
    "encoder-decoder": torch.tensor([6, 3, 2]),
    "encoder": torch.tensor(test_encoders.LENGTHS),
}


def captured(function):
    """Return the tensors that a function of a pair reads, and those that it calls."""
    tensors, others = [], [function]
    for other in others:  # it grows
        if isinstance(other, Tensor):
            tensors.append(other)
        elif isinstance(other, (list, tuple)):
            others += other
        elif callable(other) and hasattr(other, "__closure__"):
            others += getclosurevars(other).nonlocals.values()
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_and_gradients_are_those_of_the_definition(name):
    role, family = name.split(" ", 1)
    contract, inputs = INPUTS[role]
    model, places = contract.build(family), []
    lengths = {"lengths": LENGTHS[role]} if role in LENGTHS else {}

    def kernels(q, k, v, **options):
        mods = options["score_mod"], options["block_mask"].mask_mod
        places.extend(tensor.device for mod in mods for tensor in captured(mod))
        return test_gpu.as_operators(q, k, v, **options)

    def results(model, inputs):
        out = model(*inputs, **lengths)
        out.square().mean().backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        return [out.detach().cpu(), *(gradient.cpu() for gradient in gradients)]

    expected = results(copy.deepcopy(model), inputs)
    with PretendedGpu(), test_gpu.as_on_gpu() as patch:
        patch.setattr(flex_attention, "compiled", lambda: kernels)
        patch.setattr(flex_attention, "_FEWEST_NUMBERS", 1)
        there = results(model.to(DEVICE), [part.to(DEVICE) for part in inputs])
    for on_cpu, on_device in zip(expected, there, strict=True):
        torch.testing.assert_close(on_device, on_cpu, rtol=1e-6, atol=1e-8)
    assert set(places) <= {DEVICE}  # a kernel reads no other memory
