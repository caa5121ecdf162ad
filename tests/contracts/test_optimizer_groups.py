"""Every family's parameters belong to the optimizer that suits them."""

from __future__ import annotations

import pytest
import torch
from tests.contracts import test_decoders, test_encoders, test_families

from regard.layers.linear import Linear
from regard.models import DECODERS, ENCODERS
from regard.optim import Muon
from regard.training.train_step import MiniBatchStep, build_optimizers
from regard.training.training_config import OptimizerConfig

MODELS = {
    **{f"{family} translates": (test_families, family) for family in test_families.ALONE},
    **{f"{family} continues": (test_decoders, family) for family in DECODERS},
    **{f"{family} encodes": (test_encoders, family) for family in ENCODERS},
}
TABLES = ("embedding.weight", "embedding.segments", "positions.weight", "output_weight", "_table")
ENTRYWISE = {
    "transformer_xl": ["content_bias", "position_bias"],
    "mesanet": ["convolution.weight", "raw_regularization"] * 2,
}


def build(described, optimizer="muon"):
    contract, family = MODELS[described]
    model = contract.build(family)
    config = OptimizerConfig(name=optimizer, learning_rate=0.01, weight_decay=0.1)
    return model, build_optimizers(model, config, torch.float32)


def names(model, optimizer, **conditions):
    parameters = {
        p
        for group in optimizer.param_groups
        if all(group[key] == value for key, value in conditions.items())
        for p in group["params"]
    }
    return {name for name, p in model.named_parameters() if p in parameters}


@pytest.mark.parametrize("name", MODELS)
def test_muon_has_linear_maps_and_tables_alone(name):
    model, (muon, adamw) = build(name)
    assert isinstance(muon, Muon)
    maps = {f"{n}.weight" for n, module in model.named_modules() if isinstance(module, Linear)}
    assert {n for n in names(model, muon) - maps if not n.endswith(TABLES)} == set()
    assert names(model, adamw) == names(model, adamw, weight_decay=0.0)
    assert names(model, muon) | names(model, adamw) == {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize("family", ENTRYWISE)
@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_what_acts_entry_by_entry_has_no_decay_and_no_muon(family, optimizer):
    model, optimizers = build(f"{family} continues", optimizer)
    without = names(model, optimizers[-1], weight_decay=0.0)
    sizes = {n: p.shape for n, p in model.named_parameters() if n in without and p.dim() == 2}
    entrywise = [name for name, shape in sizes.items() if min(shape) > 1]
    assert all(name.endswith(tuple(ENTRYWISE[family])) for name in entrywise)
    assert len(entrywise) == len(ENTRYWISE[family])


@pytest.mark.parametrize("family", ENTRYWISE)
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_from_before_entrywise_parameters_were_separate_resumes(family, optimizer):
    """A state saved where they were among the matrices: numbered by shape, then in order."""
    model, _ = build(f"{family} continues")
    splits = {m.weight: m.num_splits for m in model.modules() if isinstance(m, Linear)}
    trained = list(model.parameters())
    two_axes = [p for p in trained if p.dim() == 2 and min(p.shape) > 1]
    order = list(dict.fromkeys(splits.get(p, 1) for p in two_axes))
    matrices = sorted(two_axes, key=lambda p: order.index(splits.get(p, 1)))
    others = [p for p in trained if not any(p is other for other in two_axes)]
    config = OptimizerConfig(name=optimizer, learning_rate=0.01)
    stepper = MiniBatchStep(model, lambda model, batch: None, config)
    if optimizer == "muon":
        saved = {f"0.{i}.momentum_buffer": torch.full_like(p, i) for i, p in enumerate(matrices)}
    else:
        saved = {
            f"0.{i}.{entry}": torch.tensor(5.0) if entry == "step" else torch.full_like(p, i)
            for i, p in enumerate(matrices + others)
            for entry in ("step", "exp_avg", "exp_avg_sq")
        }
    stepper.load(saved)
    state = stepper.optimizers[0].state
    entry = "momentum_buffer" if optimizer == "muon" else "exp_avg"
    for index, parameter in enumerate(matrices if optimizer == "muon" else matrices + others):
        if parameter in state:
            assert torch.equal(state[parameter][entry], torch.full_like(parameter, index))
    num_moved = len(ENTRYWISE[family]) if optimizer == "muon" else 0
    assert len(state) == len(saved) // (1 if optimizer == "muon" else 3) - num_moved
    model(test_decoders.IDS).logsumexp(-1).sum().backward()
    for optimizer in stepper.optimizers:
        optimizer.step()
