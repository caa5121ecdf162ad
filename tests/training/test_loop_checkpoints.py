"""How often a checkpoint is written: as often as is cheap, and for at most 2 % of the time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regard.training import loop
from regard.training.checkpoint import Counters
from regard.training.ema import ExponentialMovingAverage
from regard.training.events import Saved
from regard.training.loop import Evaluation, Trainer
from regard.training.plan import Plan
from regard.training.train_step import Loss, MiniBatchStep
from regard.training.training_config import OptimizerConfig, TrainingConfig

STEPS, EVERY = 600, 100


class Clock:
    """A clock that steps, of a second each, and checkpoints move on."""

    def __init__(self, saving_seconds):
        self.now, self._saving_seconds = 0.0, saving_seconds

    def __call__(self):
        return self.now

    def order(self, epoch):
        return [np.array([0])]

    def batch(self, rows):
        self.now += 1.0
        return torch.ones(1, 2)

    def save(self, *arguments):
        self.now += self._saving_seconds
        return "file"


def squares(model, batch):
    loss = model(batch).square().mean()
    return Loss(loss=loss, nll=loss.detach(), num_tokens=1)


def saved_steps(folder, monkeypatch, saving_seconds, **training):
    """Train; return the steps at which checkpoints were written, and the seconds of the run."""
    clock, events, model = Clock(saving_seconds), [], nn.Linear(2, 2)
    monkeypatch.setattr(loop, "save_checkpoint", clock.save)
    config = OptimizerConfig(name="adamw", learning_rate=1e-3)
    trainer = Trainer(
        model=model,
        average=ExponentialMovingAverage(model, 0.0),
        stepper=MiniBatchStep(model, squares, config),
        batches=clock,
        evaluate=lambda _: Evaluation(measures={"loss": 1.0}, score_name="loss", is_loss=True),
        save_best=lambda _: None,
        seed_dropout=lambda _: None,
        describe_rows=str,
        config=TrainingConfig(patience=10_000, **training),
        folder=folder,
        on_event=events.append,
        budget=None,
        start_time=0.0,
        clock=clock,
    )
    trainer.run(Counters(plan=Plan.from_start(STEPS, evaluate_every=EVERY)))
    return [event.step for event in events if isinstance(event, Saved)], clock.now


@pytest.mark.slow
def test_a_cheap_checkpoint_is_written_after_every_evaluation_and_every_50_seconds(
    tmp_path, monkeypatch
):
    steps, _ = saved_steps(tmp_path, monkeypatch, 1.0)
    assert set(range(EVERY, STEPS + 1, EVERY)) <= set(steps)
    assert max(np.diff([0, *steps])) <= 51


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.01, 4.0])
def test_a_costly_checkpoint_takes_at_most_2_percent_of_the_time(tmp_path, monkeypatch, seconds):
    steps, total = saved_steps(tmp_path, monkeypatch, seconds)
    # The first is written before its cost is known, and the last one in any case.
    assert (len(steps) - 2) * seconds <= 0.02 * total
    assert max(np.diff(steps)) <= seconds / 0.02 + 1
    assert steps[-1] == STEPS


@pytest.mark.slow
def test_a_longer_interval_that_is_set_counts(tmp_path, monkeypatch):
    steps, _ = saved_steps(tmp_path, monkeypatch, 1.5, checkpoint_seconds=5_000.0)
    assert max(np.diff(steps)) <= EVERY  # evaluations are kept, no oftener than every 75 seconds
