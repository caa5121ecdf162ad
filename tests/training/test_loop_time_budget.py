"""A time budget is wall-clock time: pauses and bursts of other work cost no more than they last."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regard.training.checkpoint import Counters
from regard.training.ema import ExponentialMovingAverage
from regard.training.events import Warned
from regard.training.loop import Evaluation, Trainer
from regard.training.plan import Plan, TimeBudget
from regard.training.train_step import Loss, MiniBatchStep
from regard.training.training_config import OptimizerConfig, TrainingConfig

SECONDS, STEP_SECONDS, EVALUATION_SECONDS, RESERVE = 72.0, 0.25, 0.5, 2.0


class Clock:
    """A clock that batches and evaluations move on."""

    def __init__(self, slowness):
        self.now, self._slowness = 0.0, slowness

    def __call__(self):
        return self.now

    def order(self, epoch):
        return [np.array([0])]

    def batch(self, rows):
        self.now += self._slowness(self.now) * STEP_SECONDS
        return torch.ones(1, 2)

    def evaluate(self, average):
        self.now += EVALUATION_SECONDS * min(1.0, self._slowness(self.now))
        return Evaluation(measures={"loss": 1.0}, score_name="loss", is_loss=True)


def squares(model, batch):
    loss = model(batch).square().mean()
    return Loss(loss=loss, nll=loss.detach(), num_tokens=1)


def train(folder, clock, *, num_steps=250, evaluate_every=50, most_steps=None):
    """Train within a budget; return the counters and the warnings."""
    (folder / "checkpoints").mkdir(parents=True)
    model, events = nn.Linear(2, 2), []
    config = OptimizerConfig(name="adamw", learning_rate=1e-3, warmup=0.0, schedule="constant")
    trainer = Trainer(
        model=model,
        average=ExponentialMovingAverage(model, 0.0),
        stepper=MiniBatchStep(model, squares, config),
        batches=clock,
        evaluate=clock.evaluate,
        save_best=lambda _: None,
        seed_dropout=lambda _: None,
        describe_rows=str,
        config=TrainingConfig(evaluations=5, epochs=most_steps),
        folder=folder,
        on_event=events.append,
        budget=TimeBudget(
            seconds=SECONDS, reserve=RESERVE, reserved_evaluations=1.0, most_steps=most_steps
        ),
        start_time=0.0,
        clock=clock,
    )
    plan = Plan.from_start(num_steps, evaluate_every=evaluate_every)
    counters = trainer.run(Counters(plan=plan, evaluation_seconds=EVALUATION_SECONDS))
    return counters, [event.text for event in events if isinstance(event, Warned)]


def pause_at(moment):
    """Return the slowness of a machine that stops for 15 seconds once."""
    steps = iter(())

    def slowness(now):
        nonlocal steps
        if now >= moment:
            first = next(steps, None)
            if first is None:
                steps = iter([1.0] * 10**6)
                return 15.0 / STEP_SECONDS
        return 1.0

    return slowness


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.0, 4.0, 30.0, 50.0])
def test_a_pause_costs_no_more_than_it_lasts(tmp_path, moment):
    counters, warnings = train(tmp_path, Clock(pause_at(moment)))
    assert counters.elapsed == pytest.approx(SECONDS - RESERVE - EVALUATION_SECONDS, abs=1.5)
    assert counters.step >= (SECONDS - 15 - 10) / STEP_SECONDS
    assert warnings == []


def test_a_pause_at_the_very_end_ends_the_run(tmp_path):
    counters, _ = train(tmp_path, Clock(pause_at(66.0)))
    assert counters.elapsed <= 66.0 + 15.0 + 2.0


@pytest.mark.parametrize("factor", [3.0, 20.0])
def test_a_plan_that_a_burst_of_other_work_cuts_grows_back(tmp_path, factor):
    def slowness(now):
        return factor if 20.0 <= now < 35.0 else 1.0

    counters, warnings = train(tmp_path, Clock(slowness))
    assert counters.elapsed == pytest.approx(SECONDS - RESERVE - EVALUATION_SECONDS, abs=2.0)
    assert counters.step >= (SECONDS - 15 - 10) / STEP_SECONDS
    assert warnings == []


@pytest.mark.slow
def test_a_first_plan_that_is_much_too_short_grows_without_more_evaluations(tmp_path):
    counters, warnings = train(tmp_path, Clock(lambda _: 1.0), num_steps=1, evaluate_every=1)
    assert counters.elapsed == pytest.approx(SECONDS - RESERVE - EVALUATION_SECONDS, abs=3.0)
    assert counters.step >= (SECONDS - 20) / STEP_SECONDS
    assert counters.plan.progress(counters.step) == 1.0
    assert warnings == []


def test_time_that_is_not_used_is_reported_with_the_reason(tmp_path):
    counters, warnings = train(tmp_path, Clock(lambda _: 1.0), num_steps=40, most_steps=40)
    assert counters.step == 40
    assert warnings == ["59 s of 72 s are not used: `training.epochs=40` ends the run."]
