"""The history of a run: what it keeps, and how much."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import pytest
from tests.serving.live.run_events import DATA, evaluated, progress

from regard.serving.live.history import RunHistory


def history_of(*events):
    history = RunHistory()
    for fields in events:
        history.add(fields)
    return history


def test_a_short_run_is_kept_as_it_was():
    losses = [progress(step) for step in range(1, 200)]
    state = history_of(DATA, *losses[:100], evaluated(100), *losses[100:]).state()
    assert [point["loss"] for point in state["progress"]] == [fields["loss"] for fields in losses]
    assert state["evaluated"][0]["measures"] == evaluated(100)["measures"]
    assert state["latest"]["data"] == DATA


def test_the_latest_evaluation_alone_has_its_outputs():
    state = history_of(evaluated(1), evaluated(2)).state()
    assert state["latest"]["evaluated"]["examples"] == evaluated(2)["examples"]
    assert not any({"stability", "examples"} & set(point) for point in state["evaluated"])


@pytest.mark.slow
def test_a_long_run_is_thinned_evenly_and_keeps_its_extremes():
    history = RunHistory()
    for step in range(1, 30_001):
        spike = {20_001: 99.0, 12_007: 0.001}.get(step)
        norm = 1e6 if step == 15_555 else 1.0
        history.add(progress(step, loss=spike, gradient_norm=norm))
        if step % 50 == 0:
            history.add(evaluated(step, is_best=step == 22_750))
    state = history.state()
    steps = [point["step"] for point in state["progress"]]
    assert len(steps) <= 4_000
    assert len(state["evaluated"]) <= 1_000
    assert steps == sorted(set(steps))
    assert steps[:100] == [*range(1, 101)]
    assert steps[-1] == 30_000
    assert {20_001, 12_007, 15_555} <= set(steps)
    assert max(after - step for step, after in pairwise(steps)) < 120
    assert [point["step"] for point in state["evaluated"] if point["is_best"]] == [22_750]
    assert len(msgspec.json.encode(state)) < 2_000_000


def test_an_add_says_whether_earlier_points_have_changed():
    history = RunHistory()
    assert not history.add(progress(1))
    assert not history.add(progress(2))
    assert history.add(progress(2))
    assert not history.add(evaluated(2))


def test_the_steps_that_a_resumed_run_repeats_are_drawn_once():
    earlier = [evaluated(50), evaluated(100, learning_rate=1.0), evaluated(150)]
    history = history_of(*earlier, progress(90), evaluated(100))
    state = history.state()
    assert [point["step"] for point in state["evaluated"]] == [50, 100]
    assert state["evaluated"][1]["learning_rate"] == 0.003
    assert [point["step"] for point in state["progress"]] == [90]


def test_losses_that_are_not_finite_stay_gaps_when_a_curve_is_thinned():
    history = RunHistory()
    for step in range(1, 4_002):
        history.add(progress(step, loss=math.nan))
    history.add(progress(4_002, loss=math.inf))
    state = msgspec.json.decode(msgspec.json.encode(history.state()))
    assert len(state["progress"]) < 2_200
    assert {point["loss"] for point in state["progress"]} == {None}


def test_the_last_warnings_are_kept_and_all_are_counted():
    warnings = [{"event": "warned", "text": str(number)} for number in range(120)]
    state = history_of(*warnings).state()
    assert [fields["text"] for fields in state["warned"]] == [str(n) for n in range(70, 120)]
    assert state["num_warnings"] == 120


def test_a_state_is_not_changed_by_later_events():
    history = history_of(progress(1))
    state = history.state()
    history.add(progress(2))
    history.add({"event": "warned", "text": "later"})
    assert (len(state["progress"]), state["warned"]) == (1, [])


def test_the_stage_of_the_work_is_kept_until_something_else_happens():
    working = {"event": "working", "stage": "reading a.tsv", "done": 1, "total": 2, "unit": "MB"}
    assert history_of(working).state()["latest"] == {"working": working}
    assert history_of(working, DATA).state()["latest"] == {"data": DATA}
