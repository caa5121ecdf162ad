"""A time budget that cannot be kept: less is measured, and the cause is said."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from regard.setup import estimate as planning
from regard.setup.config import RunConfig
from regard.setup.estimate import Measurement, describe_late_end, describe_overrun, measure
from regard.training.distribution import ALONE
from regard.training.training_config import OptimizerConfig, TrainingConfig

STEP_SECONDS = 10.0


@pytest.fixture
def setup(monkeypatch):
    """A run of twenty batches, each step of which takes ten seconds."""
    times = (STEP_SECONDS * number for number in count())
    monkeypatch.setattr(planning, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    monkeypatch.setattr(planning, "_MEASURED_STEPS", 5)  # which other tests have lowered
    batches = SimpleNamespace(
        order=lambda epoch: [np.array([row]) for row in range(20)], size=lambda rows: 1
    )
    model = nn.Linear(1, 1)
    cast(Any, model).compute_dtype = torch.float32
    steps: list[int] = []

    def build_mini_batch(*_: object) -> tuple[Any, Any]:
        stepper = SimpleNamespace(
            step=lambda batch, progress: steps.append(batch), sum_seconds=0.0, state=dict
        )
        return stepper, SimpleNamespace(batch=lambda rows: int(rows[0]))

    monkeypatch.setattr(planning, "build_mini_batch", build_mini_batch)
    return cast(
        Any,
        SimpleNamespace(
            config=RunConfig(
                training=TrainingConfig(minutes=1.0), optimizer=OptimizerConfig(name="adamw")
            ),
            batches=batches,
            model=model,
            loss=lambda: None,
            world=ALONE,
            device=torch.device("cpu"),
            evaluation_seconds=lambda model: 3.0,
            final_evaluations=2.0,
            steps=steps,
        ),
    )


@pytest.mark.parametrize(
    ("elapsed", "num_steps", "num_taken"),
    [(0.0, 5, 7), (1_050.0, 2, 4), (1_199.0, 1, 2), (5_000.0, 1, 2)],
)
def test_long_steps_are_measured_less_often(setup, elapsed, num_steps, num_taken):
    setup.config = RunConfig(
        training=TrainingConfig(minutes=20.0), optimizer=OptimizerConfig(name="adamw")
    )
    measured = measure(setup, elapsed=elapsed)
    assert (measured.num_steps, len(setup.steps)) == (num_steps, num_taken)
    assert measured.step_seconds == STEP_SECONDS


def test_a_budget_that_is_too_short_is_said_with_what_takes_the_time(setup):
    measured = Measurement(step_seconds=10.0, evaluation_seconds=3.0, memory_bytes=1)
    planned = cast(Any, SimpleNamespace(seconds=120.0, pass_minutes=0))
    assert describe_overrun(setup, planned, measured, 90.0) == (
        "1 min are not enough: the run is planned to end after 2.0 min.  Reading, vocabulary, "
        "encoding and the model took 90 s; a step takes 10.0 s, an evaluation 3 s, and the last "
        "one 6 s.  Name a part of the data, or take more time: `training.minutes=4`"
    )


def test_a_budget_that_is_kept_is_not_spoken_of(setup):
    measured = Measurement(step_seconds=10.0, evaluation_seconds=3.0, memory_bytes=1)
    planned = cast(Any, SimpleNamespace(seconds=63.0, pass_minutes=0))
    assert describe_overrun(setup, planned, measured, 10.0) == ""


@pytest.mark.parametrize(
    ("seconds", "prepared", "text"),
    [
        (
            600.0,
            400.0,
            "10.0 of 1 min were used: 400 s until the first step, 120 s for steps and evaluations, "
            "80 s for the last evaluation and the files.",
        ),
        (
            600.0,
            None,
            "10.0 of 1 min were used: 120 s for steps and evaluations, 480 s for the last "
            "evaluation and the files.",
        ),
        (119.0, 1.0, ""),
    ],
)
def test_a_run_that_ends_late_says_what_took_the_time(seconds, prepared, text):
    finished = cast(Any, SimpleNamespace(seconds=seconds, estimate=100.0))
    assert describe_late_end(TrainingConfig(minutes=1.0), finished, 120.0, prepared) == text
