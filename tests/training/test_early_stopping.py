"""Patience counts evaluations in which neither the score nor the validation loss improved."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
import torch
from torch import nn

from regard.training.checkpoint import Counters, checkpoint_path
from regard.training.ema import ExponentialMovingAverage
from regard.training.loop import Evaluation, Trainer
from regard.training.plan import Plan
from regard.training.signals import Stopped
from regard.training.train_step import Loss, MiniBatchStep
from regard.training.training_config import OptimizerConfig, TrainingConfig

PATIENCE = 2


class Rows:
    """One batch of one row an epoch."""

    def order(self, epoch):
        return [np.array([0])]

    def batch(self, rows):
        return torch.ones(1, 2)


def squares(model, batch):
    loss = model(batch).square().mean()
    return Loss(loss=loss, nll=loss.detach(), num_tokens=1)


def train(folder, evaluations, *, num_steps=12, min_steps=0):
    """Train with an evaluation after each step of (chrF, loss); return the counters."""
    (folder / "checkpoints").mkdir(parents=True)
    model, pending = nn.Linear(2, 2), iter(evaluations)
    average = ExponentialMovingAverage(model, 0.0)

    def evaluate(_):
        chrf, loss = next(pending)
        return Evaluation(measures={"loss": loss, "chrf": chrf}, score_name="chrf")

    config = OptimizerConfig(name="adamw", learning_rate=1e-3, warmup=0.0, schedule="constant")
    trainer = Trainer(
        model=model,
        average=average,
        stepper=MiniBatchStep(model, squares, config),
        batches=Rows(),
        evaluate=evaluate,
        save_best=lambda _: None,
        seed_dropout=lambda _: None,
        describe_rows=str,
        config=TrainingConfig(patience=PATIENCE, patience_steps=min_steps),
        folder=folder,
        on_event=lambda _: None,
        budget=None,
        start_time=time.monotonic(),
    )
    return trainer.run(Counters(plan=Plan.from_start(num_steps, evaluate_every=1)))


@pytest.mark.parametrize(
    ("evaluations", "num_steps"),
    [
        ([(5.0, 3.0)] * 12, 1 + PATIENCE),
        ([(5.0, 3.0 - 0.1 * step) for step in range(12)], 12),
        ([(5.0 + step, 3.0 + step) for step in range(12)], 12),
        ([(5.0, 3.0 * (1 - 1e-6) ** step) for step in range(12)], 1 + PATIENCE),
        ([(5.0, 3.0), (5.0, 2.0), *[(4.0, 2.0)] * 10], 2 + PATIENCE),
    ],
    ids=["neither", "loss alone", "score alone", "hardly at all", "no more"],
)
def test_a_run_ends_where_neither_score_nor_loss_improves(tmp_path, evaluations, num_steps):
    assert train(tmp_path, evaluations).step == num_steps


@pytest.mark.parametrize(
    ("evaluations", "best_step"),
    [
        ([(0.0, 3.0), (0.0, 2.0), (0.0, 2.5)], 2),
        ([(0.0, 3.0), (0.0, 3.0 * (1 - 1e-6))], 2),
        ([(0.0, 2.0), (0.0, 2.0), (0.0, 3.0)], 1),
        ([(0.0, 3.0), (1.0, 9.0), (1.0, 9.5)], 2),
    ],
    ids=["lower loss", "hardly lower", "equal loss", "score first"],
)
def test_of_two_equal_scores_the_one_with_the_lower_loss_is_kept(tmp_path, evaluations, best_step):
    counters = train(tmp_path, evaluations, num_steps=len(evaluations))
    assert counters.best_step == best_step
    assert counters.best_measures["loss"] == evaluations[best_step - 1][1]


@pytest.mark.parametrize(("min_steps", "num_steps"), [(2, 3), (3, 4), (7, 8), (20, 12)])
def test_a_run_of_short_passes_goes_on_for_some_steps_without_a_gain(
    tmp_path, min_steps, num_steps
):
    assert train(tmp_path, [(5.0, 3.0)] * 12, min_steps=min_steps).step == num_steps


def test_a_signal_after_the_last_step_is_obeyed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Trainer, "_report_unused_time", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    with pytest.raises(Stopped):
        train(tmp_path, [(5.0, 3.0)], num_steps=1)
    assert checkpoint_path(tmp_path).exists()
