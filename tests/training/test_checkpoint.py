"""A checkpoint whose content does not fit is refused with what does not, and nothing else."""

import pytest
import torch
from torch import nn

from regard.errors import WeightsError
from regard.hub.storage import read_tensors, write_tensors
from regard.training.checkpoint import (
    Counters,
    began_in_shards,
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


def _set_counter(name, value):
    return lambda _, state: state["counters"].update({name: value})


CHANGES = {
    "KeyError: 'random'": lambda tensors, _: tensors.pop("random"),
    "RuntimeError: ": lambda tensors, _: tensors.update(random=tensors["random"][:9]),
    "KeyError: 'later'": lambda tensors, _: tensors.update({"average.later": torch.ones(1)}),
    "ValidationError: Object missing": lambda _, state: state["counters"].pop("plan"),
    "ValidationError: Expected `object`": lambda _, state: state.update(counters=[]),
    "ValidationError: Expected `int` >= 0 - at `$.step`": _set_counter("step", -1),
    "ValidationError: Expected `int`, got `float` - at `$.step`": _set_counter("step", 0.5),
    "ValidationError: step 5 of a plan of 4": _set_counter("step", 5),
    "ValidationError: Expected `int` >= 0 - at `$.epoch`": _set_counter("epoch", -1),
    "ValidationError: Expected `int` >= 0 - at `$.position`": _set_counter("position", -3),
    "ValidationError: Expected `float` >= 0.0 - at `$.elapsed`": _set_counter("elapsed", -9.0),
    "ValidationError: Expected `array` of length >= 1": lambda _, state: state["counters"][
        "plan"
    ].update(revisions=[]),
    "ValidationError: a plan begins at step 0, not 2": lambda _, state: state["counters"]["plan"][
        "revisions"
    ][0].update(step=2),
    "ValidationError: Expected `int` >= 1 - at `$.plan.evaluate_every`": lambda _, state: state[
        "counters"
    ]["plan"].update(evaluate_every=0),
    "ShapeError: exp_avg of parameter 0 has shape [2], not [3, 2]": lambda tensors, _: (
        tensors.update({"optimizer.0.0.exp_avg": torch.ones(2)})
    ),
    "IndexError: ": lambda tensors, _: tensors.update({"optimizer.0.7.exp_avg": torch.ones(2)}),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_an_intact_checkpoint_that_cannot_be_resumed_is_refused_with_the_reason(tmp_path, reason):
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
    beginning = f"{path}: damaged, or of another version of regard ({reason}"
    assert message.startswith(beginning)
    assert message.endswith("or train again with another `output`.")


@pytest.mark.parametrize(
    ("steps", "step", "stride", "planned"),
    [
        (20, 20, 1, 100),
        (89, 89, 1, 100),
        (90, 90, 1, None),
        (120, 120, 1, None),
        (20, 20, 9, None),
        (70, 69, 1, None),
    ],
)
def test_a_plan_that_the_time_cut_by_more_than_a_tenth_is_known_by_its_steps(
    steps, step, stride, planned
):
    plan = Plan.from_start(100, evaluate_every=10).revise(10, total_steps=steps)
    assert Counters(plan=plan, step=step, plan_stride=stride).steps_before_cut == planned


@pytest.mark.parametrize("counters", [[], {"step": "three"}, {"in_shards": 2}])
def test_counters_of_another_type_are_refused_before_a_run_is_opened(tmp_path, counters):
    path = checkpoint_path(tmp_path)
    write_tensors(path, {}, {"counters": counters})
    with pytest.raises(WeightsError, match="damaged, or of another version of regard"):
        began_in_shards(tmp_path)
