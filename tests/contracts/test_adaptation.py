"""Every family learns through each of its low-rank adapters, and merges them without a change.

And its last layers can be trained alone.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.contracts import test_decoders, test_encoders, test_families
from tests.models.vit import test_model

from regard.layers.linear import Linear
from regard.layers.lora import ADAPTED, add_low_rank, merge_low_rank
from regard.models import DECODERS, ENCODERS
from regard.setup.config import FineTuningConfig, RunConfig
from regard.setup.fine_tuning import freeze

IMAGES = SimpleNamespace(
    build=lambda kind: test_model.build(kind)[0],
    loss_of=lambda model: model(test_model.build("image")[1]).square().sum(),
)
MODELS = {
    "vit classifies": (IMAGES, "image", {}),
    **{f"{family} translates": (test_families, family, {}) for family in test_families.ALONE},
    "lstm translates by an additive score": (test_families, "lstm", {"attention": "bahdanau"}),
    "bert+gpt translates": (test_families, "bert+gpt", {}),
    **{f"{family} continues": (test_decoders, family, {}) for family in DECODERS},
    **{f"{family} encodes": (test_encoders, family, {}) for family in ENCODERS},
}


@pytest.fixture(params=MODELS)
def build(request):
    contract, family, changes = MODELS[request.param]
    return contract, lambda: contract.build(family, **changes)


def adapters(model):
    return {
        name: module.adaptation
        for name, module in model.named_modules()
        if isinstance(module, Linear) and module.adaptation is not None
    }


@torch.no_grad()
def loss(contract, model):
    return float(contract.loss_of(model))


def test_every_adapter_learns_and_the_merged_model_equals_the_adapted_one(build):
    contract, build = build
    model, plain = build(), build()
    add_low_rank(model, rank=2, alpha=4.0)
    model.requires_grad_(False)
    trained = [p.requires_grad_() for name, p in model.named_parameters() if ADAPTED in name]
    before = [p.detach().clone() for p in trained]
    optimizer = torch.optim.Adam(trained, lr=0.05, foreach=False)
    for _ in range(2):
        optimizer.zero_grad()
        contract.loss_of(model).backward()
        optimizer.step()
    idle = [n for n, adapter in adapters(model).items() if not adapter.change().abs().amax() > 0]
    assert idle == []
    assert not any(torch.equal(p, old) for p, old in zip(trained, before, strict=True))
    adapted, original = loss(contract, model), loss(contract, plain)
    plain.load_state_dict(merge_low_rank(model.state_dict(), alpha=4.0))
    assert abs(adapted - loss(contract, plain)) <= 1e-12 * max(1.0, abs(adapted))
    assert adapted != original


def test_the_last_layer_is_trained_without_what_the_others_share(build):
    model = build[1]()
    freeze(model, RunConfig(fine_tuning=FineTuningConfig(method="last", layers=1)))
    *others, last = model.layers()
    assert not any(p.requires_grad for layer in others for p in layer.parameters())
    of_others = {id(p) for layer in others for p in layer.parameters()}
    assert all(p.requires_grad for p in last.parameters() if id(p) not in of_others)
    assert any(p.requires_grad for p in last.parameters())
