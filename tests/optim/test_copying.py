"""Copies and pickles of optimizers continue as the original does."""

import copy
import pickle

import pytest
import torch
from torch import nn

from regard.errors import ConfigError
from regard.optim import (
    LBFGS,
    AdamThenCG,
    ConjugateGradient,
    FullBatch,
    GradientDescent,
    Muon,
    NewtonCG,
)

INPUTS = torch.linspace(-1, 1, 24, dtype=torch.float64).view(8, 3)
LABELS = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])

METHODS = {
    "cg": ConjugateGradient,
    "newton-cg": NewtonCG,
    "lbfgs": LBFGS,
    "gradient descent": GradientDescent,
    "adam-then-cg": lambda params: AdamThenCG(params, window=1, threshold=0.5),
    "muon": lambda params: Muon([p for p in params if p.dim() == 2], lr=0.1, momentum=0.5),
}


def take_steps(model, optimizer, number):
    """Take steps on a small classification; return the weights."""
    loss = nn.functional.cross_entropy
    objective = FullBatch(
        [INPUTS], lambda outputs, _: loss(outputs, LABELS), outputs=lambda batch: model(batch)
    )

    def closure():
        optimizer.zero_grad()
        value = loss(model(INPUTS), LABELS)
        value.backward()
        return value.detach()

    for _ in range(number):
        optimizer.step(objective if isinstance(optimizer, NewtonCG) else closure)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    "make_copy", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]
)
@pytest.mark.parametrize("method", METHODS)
def test_a_copy_of_model_and_optimizer_continues_with_the_same_bits(method, make_copy):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    optimizer = METHODS[method](list(model.parameters()))
    before = take_steps(model, optimizer, 2)
    other_model, other = make_copy((model, optimizer))
    torch.testing.assert_close(take_steps(other_model, other, 0), before, atol=0, rtol=0)
    after = take_steps(model, optimizer, 2)
    assert not torch.equal(after, before)
    torch.testing.assert_close(take_steps(other_model, other, 2), after, atol=0, rtol=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: Muon(groups, lr=0.1),
        lambda groups: GradientDescent(groups, step=0.1),
        lambda groups: AdamThenCG(groups, lr=0.1),
    ],
)
def test_schedulers_of_pytorch_keep_their_settings_in_the_groups(make):
    weight = nn.Parameter(torch.eye(2))
    optimizer = make([{"params": [weight], "initial_lr": 0.1}])
    resumed = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5, last_epoch=2)
    assert resumed.get_last_lr() == [pytest.approx(0.05)]
    averaging = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.02, anneal_epochs=1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    averaging.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
    with pytest.raises(ConfigError, match="has no setting 'rate' of a group"):
        make([{"params": [weight], "rate": 0.1}])
