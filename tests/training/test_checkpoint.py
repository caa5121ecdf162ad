"""A checkpoint whose content does not fit is refused with what does not, and nothing else."""

import pytest
import torch
from torch import nn

from regard.errors import WeightsError
from regard.hub.storage import read_tensors, write_tensors
from regard.training.checkpoint import (
    Counters,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from regard.training.ema import ExponentialMovingAverage
from regard.training.plan import Plan
from regard.training.train_step import Loss, MiniBatchStep
from regard.training.training_config import OptimizerConfig


def squares(model, batch):
    loss = model(batch).square().mean()
    return Loss(loss=loss, nll=loss.detach(), num_tokens=1)


def parts():
    model = nn.Linear(2, 3)
    config = OptimizerConfig(name="adamw", learning_rate=1e-3)
    stepper = MiniBatchStep(model, squares, config)
    stepper.step(torch.ones(1, 2), 0.0)
    return model, ExponentialMovingAverage(model, 0.5), stepper


CHANGES = {
    "KeyError: 'random'": lambda tensors, _: tensors.pop("random"),
    "RuntimeError: ": lambda tensors, _: tensors.update(random=tensors["random"][:9]),
    "KeyError: 'later'": lambda tensors, _: tensors.update({"average.later": torch.ones(1)}),
    "ValidationError: ": lambda _, state: state["counters"].pop("plan"),
    "ShapeError: exp_avg of parameter 0 has shape [2], not [3, 2]": lambda tensors, _: (
        tensors.update({"optimizer.0.0.exp_avg": torch.ones(2)})
    ),
    "IndexError: ": lambda tensors, _: tensors.update({"optimizer.0.7.exp_avg": torch.ones(2)}),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_a_checkpoint_that_another_version_wrote_is_refused_with_the_reason(tmp_path, reason):
    plan = Plan.from_start(4, evaluate_every=2)
    save_checkpoint(tmp_path, Counters(plan=plan, step=1), *parts())
    assert load_checkpoint(tmp_path, *parts()).step == 1
    path = checkpoint_path(tmp_path)
    tensors, state = read_tensors(path)
    CHANGES[reason](tensors, state)
    write_tensors(path, tensors, state)
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(tmp_path, *parts())
    message = str(caught.value)
    assert message.startswith(f"{path}: does not fit this version of regard ({reason}")
    assert message.endswith("or train again with another `output`.")
