"""Small data is trained for enough steps; larger data for as many as passes ask for."""

from __future__ import annotations

import math
import time

import pytest
from msgspec.structs import replace
from tests.conftest import TINY, toy_pairs, write_tsv

from regard.hub.model_folder import ModelFolder
from regard.runs import session
from regard.runs.session_setup import SessionContext
from regard.setup.request import Request

SETTINGS = tuple(setting for setting in TINY if not setting.startswith("training."))


def plan_of(path, *settings):
    """Return the plan of a new run on a file, and its summary."""
    request = Request.parse((*SETTINGS, *settings), paths={"path": str(path)})
    context = SessionContext(ModelFolder("."), lambda event: None, time.monotonic())
    run = session.RunSession.from_request(request, context)
    counters, planned = run.plan()
    return counters.plan, planned


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    return write_tsv(tmp_path_factory.mktemp("data") / "a.tsv", toy_pairs(40))


def test_one_batch_a_pass_is_planned_for_three_hundred_steps(forty):
    plan, planned = plan_of(forty, "training.batch_tokens=4096")
    assert (planned.steps_per_epoch, planned.total_steps, plan.evaluate_every) == (1, 300, 5)


@pytest.mark.slow
def test_a_budget_too_short_for_one_pass_is_told_what_one_takes(forty, monkeypatch):
    speed = {"step_seconds": 9.0, "evaluation_seconds": 0.1}
    measure = session.measure
    monkeypatch.setattr(session, "measure", lambda *a, **k: replace(measure(*a, **k), **speed))
    settings = ("training.batch_tokens=32", "training.minutes=1")
    _, planned = plan_of(forty, *settings)
    missing = planned.steps_per_epoch - planned.total_steps
    assert missing > 0
    assert planned.pass_minutes == math.ceil(1 + missing * 9.0 / 0.9 / 60)
    _, planned = plan_of(forty, settings[0], f"training.minutes={planned.pass_minutes + 1}")
    assert planned.pass_minutes == 0


@pytest.mark.slow
def test_both_sides_of_five_batches_a_pass(forty):
    sizes = {}
    for tokens in (80, 40, 32):
        plan, planned = plan_of(forty, f"training.batch_tokens={tokens}")
        sizes[planned.steps_per_epoch] = planned.total_steps, plan.evaluate_every
    assert min(sizes) <= 5 < max(sizes), sizes
    for per_epoch, (steps, every) in sizes.items():
        is_small = per_epoch <= 5
        assert (steps, every) == (300, 5) if is_small else (60 * per_epoch, per_epoch)


def test_passes_that_are_set_are_exact(forty):
    for epochs in (7, 400):
        settings = ("training.batch_tokens=4096", f"training.epochs={epochs}")
        plan, planned = plan_of(forty, *settings)
        assert (planned.total_steps, plan.evaluate_every) == (epochs, 1)
