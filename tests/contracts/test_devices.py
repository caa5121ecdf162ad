"""Attention, dropout and models compute on another device what they compute on a CPU.

Without an option the device is a pretended one (`tests/pretended_gpu.py`), which refuses what a GPU
would; ``pytest tests/contracts/test_devices.py --device cuda`` computes on a GPU.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack

import pytest
import torch
from tests.conftest import TINY, toy_pairs
from tests.contracts import test_decoders, test_encoders, test_families
from tests.contracts.test_attention import BIASES, PATTERNS, SCORES, leaves
from tests.pretended_gpu import DEVICE, PretendedGpu

import regard
from regard.attention import Full, Local, attend
from regard.errors import ConfigError
from regard.explain import predict
from regard.explain.influence import (
    InfluenceOptions,
    TrainingObjective,
    open_training,
    row_influence,
)
from regard.explain.influence.training_objective import RowDerivatives
from regard.generation import decode
from regard.generation.decoders import is_repeated_as_graph
from regard.layers.dropout import Dropout
from regard.models import DECODERS, ENCODERS
from regard.training.device import choose_device

# What PyTorch's compiler says of a GPU on which exact products are asked for, and of its own parts.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


@pytest.fixture
def device(request):
    """The device of the option."""
    name = request.config.getoption("--device")
    with ExitStack() as stack:
        if name == "pretended":
            stack.enter_context(PretendedGpu())
            yield DEVICE
            return
        try:
            yield choose_device(name)
        except ConfigError as error:
            pytest.skip(str(error))


CASES = [
    *(
        (index, list(SCORES)[index % len(SCORES)], list(BIASES)[index % len(BIASES)], 24)
        for index in range(len(PATTERNS))
    ),
    *((1, "dot", "none", 520), (3, "dot", "alibi", 520), (8, "cosine", "none", 520)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "score", "bias", "length"), CASES)
def test_attention_is_that_of_the_cpu(device, pattern, score, bias, length):
    """The lengths are on both sides of the one from which on it is computed block by block."""
    results = []
    for place in ("cpu", device):
        tensors = {
            name: tensor.float().to(place).requires_grad_()
            for name, tensor in leaves(length, length).items()
        }
        out = attend(
            *(tensors[name] for name in "qkv"),
            pattern=PATTERNS[pattern],
            score=SCORES[score](tensors),
            bias=BIASES[bias](tensors),
            lengths=torch.tensor([length, length // 2], device=place),
        )
        gradients = torch.autograd.grad(
            out.square().sum(), list(tensors.values()), allow_unused=True, materialize_grads=True
        )
        results.append([out.detach().cpu(), *(gradient.cpu() for gradient in gradients)])
    for on_cpu, there in zip(*results, strict=True):
        torch.testing.assert_close(there, on_cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [3, 130, 600])
@pytest.mark.parametrize("pattern", [Full(), Local(2, 1)], ids=repr)
def test_an_infinite_key_reaches_the_queries_that_see_it(device, pattern, length):
    """Its weight would be 0."""
    q, k, v = (torch.randn(1, 2, length, 16, device=device) for _ in range(3))
    k[0, 1, 1, 0] = -torch.inf
    out = attend(q.abs(), k, v, pattern=pattern).cpu()
    assert out[0, 1, :3].isnan().all()
    assert out[0, 0].isfinite().all()


FAMILIES = {
    **{f"encoder-decoder {name}": name for name in (*test_families.ALONE, test_families.COPYING)},
    **{f"decoder {name}": name for name in DECODERS},
    **{f"encoder {name}": name for name in ENCODERS},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_and_gradients_of_models_are_those_of_the_cpu(device, name):
    role, family = name.split(" ", 1)
    contract = {
        "encoder-decoder": test_families,
        "decoder": test_decoders,
        "encoder": test_encoders,
    }[role]
    model = contract.build(family)
    inputs = {
        "encoder-decoder": (test_families.SOURCE, test_families.TARGET),
        "decoder": (test_decoders.IDS,),
        "encoder": (test_encoders.IDS,),
    }[role]
    results = []
    for place in ("cpu", device):
        there = copy.deepcopy(model).to(place)
        out = there(*(ids.to(place) for ids in inputs))
        out.square().mean().backward()
        gradients = [weight.grad for weight in there.parameters() if weight.grad is not None]
        results.append([out.detach().cpu(), *(gradient.cpu() for gradient in gradients)])
    for on_cpu, there in zip(*results, strict=True):
        torch.testing.assert_close(there, on_cpu, rtol=1e-6, atol=1e-8)


def test_masks_of_dropout_follow_from_the_seed(device):
    dropout, masks = Dropout(0.5), []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(dropout(torch.ones(64, 64, device=device)).cpu())
    assert torch.equal(*masks)
    assert float(masks[0].mean()) == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["transformer", test_families.COPYING, "bert+gpt", "t5"])
@pytest.mark.parametrize("beam", [1, 3])
def test_a_search_writes_what_it_writes_on_a_cpu(device, family, beam):
    """On a GPU by CUDA graphs; a warning that one cannot be recorded would fail the test."""
    model = test_families.build(family)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.0)
    sources = test_families.SOURCE.repeat(4, 1)
    there = copy.deepcopy(model).to(device)
    assert is_repeated_as_graph(there) == (device.type == "cuda")
    outputs = [
        decode(each, sources.tolist(), beam=beam, max_length=20, end_id=2)
        for each in (model, there)
    ]
    assert [output.ids for output in outputs[0]] == [output.ids for output in outputs[1]]
    expected = [output.score for output in outputs[0]]
    assert [output.score for output in outputs[1]] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_run_trains_on_the_gpu(request, tmp_path):
    """On a pretended one it does in `tests/runs/test_run_on_device.py`."""
    name = request.config.getoption("--device")
    if name == "pretended":
        pytest.skip("needs a GPU: --device cuda")
    try:
        expected = choose_device(name)
    except ConfigError as error:
        pytest.skip(str(error))
    translator = regard.train(toy_pairs(60), tmp_path / "model", device=name, settings=TINY)
    assert translator.model.device == expected
    source = "3 red cat sees the dog"
    texts = [  # in bf16, which a GPU takes, close ones may change places
        regard.load(tmp_path / "model", device=place, precision="float32").translate(source)
        for place in (name, "cpu")
    ]
    assert texts[0] == texts[1]


class ReverseObjective(TrainingObjective):
    """Derivatives of rows by their gradients: pretended tensors have no forward mode."""

    def row_derivatives(self, direction, on_batch):
        parameters, values, num_tokens = list(self.parameters.values()), [], 0
        with self._exactly():
            for rows in self.setup.batches.in_sequence():
                batch = self.setup.batches.batch(rows)
                losses, count = self.setup.loss().row_losses(self.model, batch)
                weights = torch.ones_like(losses, requires_grad=True)
                gradients = torch.autograd.grad(
                    (weights * losses).sum(),
                    parameters,
                    create_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
                pairs = zip(gradients, self.unflatten(direction), strict=True)
                product = sum((gradient * tangent).sum() for gradient, tangent in pairs)
                values.append(torch.autograd.grad(product, weights)[0].detach().cpu().double())
                num_tokens += count
        return RowDerivatives(torch.cat(values).numpy(), num_tokens)


@pytest.mark.slow
def test_influence_of_training_rows_is_that_of_the_cpu(request, tmp_path):
    regard.train(toy_pairs(60), tmp_path / "model", settings=(*TINY, "model.has_copy=true"))
    options = InfluenceOptions(most_products=3)

    def influence(objective_of, place):
        predictor = regard.load(tmp_path / "model", device="cpu")
        predictor.model.to(place)
        objective = objective_of(open_training(predictor))
        return row_influence(predict(predictor, "3 red cat sees the dog"), objective, options)

    expected = influence(TrainingObjective, "cpu")
    if request.config.getoption("--device") == "pretended":
        with PretendedGpu():
            actual = influence(ReverseObjective, DEVICE)
    else:
        actual = influence(TrainingObjective, request.getfixturevalue("device"))
    scale = abs(expected.values).max()
    assert abs(actual.values - expected.values).max() < 1e-2 * scale
    assert actual.damping == pytest.approx(expected.damping, rel=1e-3)
