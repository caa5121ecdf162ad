"""No family waits for the device in a training step's forward and backward pass.

Nor does one take an operation that has no method in a fixed order on a GPU.

Lengths of the rows are known in main memory, as those of a batch are.
"""

from __future__ import annotations

import pytest
import torch
from tests.contracts import test_decoders, test_encoders, test_families
from tests.pretended_gpu import DEVICE, PretendedGpu

from regard.layers.attention_config import AttentionConfig
from regard.models import DECODERS, ENCODERS, Bert, BertConfig, Transformer, TransformerConfig

SMALL = {"dim": 16, "num_heads": 2, "hidden_dim": 32}
LENGTHS = torch.tensor([6, 3, 2])  # of the rows of `test_families.SOURCE`


def waits_of(model, *inputs, **lengths):
    """Return what waits in two passes of a model on the device, and what a CPU computes."""
    expected = model(*inputs, **lengths)
    expected.square().mean().backward()
    of_cpu = [weight.grad for weight in model.parameters()]
    model.zero_grad(set_to_none=True)
    with PretendedGpu() as gpu:
        model = model.to(DEVICE)
        inputs = [part.to(DEVICE) for part in inputs]
        for repeats_its_bits in (True, False):  # the first may build tables
            model.zero_grad(set_to_none=True)
            gpu.waits.clear()
            torch.use_deterministic_algorithms(repeats_its_bits)
            try:
                out = model(*inputs, **lengths)
                out.square().mean().backward()
            finally:
                torch.use_deterministic_algorithms(False)
        waits = list(gpu.waits)
        gradients = [None if w.grad is None else w.grad.cpu() for w in model.parameters()]
        out = out.detach().cpu()
    torch.testing.assert_close(out, expected.detach(), rtol=1e-6, atol=1e-8)
    for there, here in zip(gradients, of_cpu, strict=True):
        if here is not None:
            torch.testing.assert_close(there, here, rtol=1e-6, atol=1e-8)
    return waits


@pytest.mark.slow
@pytest.mark.parametrize("family", [*test_families.ALONE, test_families.COPYING, "bert+gpt"])
def test_encoder_decoders(family):
    model = test_families.build(family)
    inputs = test_families.SOURCE, test_families.TARGET
    assert waits_of(model, *inputs, lengths=LENGTHS) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", DECODERS)
def test_decoders_(family):
    """The solver of MesaNet looks every 8 iterations, of which these make up to 50."""
    waits = waits_of(test_decoders.build(family), test_decoders.IDS)
    of_solver = [wait for wait in waits if " at attention/mesa/solver.py" in wait]
    assert waits == of_solver
    assert len(waits) <= (4 * 7 if family == "mesanet" else 0)  # of two layers, there and back


@pytest.mark.slow
@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_(family):
    model = test_encoders.build(family)
    lengths = torch.tensor(test_encoders.LENGTHS)
    assert waits_of(model, test_encoders.IDS, lengths=lengths) == []


@pytest.mark.parametrize("pattern", ["local:0.5", "local:0.1,0.4", "random:2:1"])
def test_patterns_that_depend_on_the_length_of_each_row(pattern):
    torch.manual_seed(0)
    config = TransformerConfig(num_encoder_layers=2, num_decoder_layers=1, **SMALL)
    attention = AttentionConfig(encoder=pattern, cross=pattern)
    model = Transformer(config, 20, attention).double().eval()
    inputs = test_families.SOURCE, test_families.TARGET
    assert waits_of(model, *inputs, lengths=LENGTHS) == []
    encoder = Bert(BertConfig(num_layers=2, **SMALL), 20, AttentionConfig(encoder=pattern))
    lengths = torch.tensor(test_encoders.LENGTHS)
    assert waits_of(encoder.double().eval(), test_encoders.IDS, lengths=lengths) == []
