"""Lines that a run prints."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import msgspec
import pytest

from regard.cli import console
from regard.cli.console import describe, is_interactive, make_report
from regard.training.events import (
    Finished,
    ModelSummary,
    Planned,
    Progress,
    Warned,
    WorkingOn,
)

PLANNED = Planned(
    optimizer="muon",
    learning_rate=0.02,
    batch_tokens=512,
    padding_share=0.015,
    total_steps=1,
    steps_per_epoch=2,
    seconds=75.0,
    memory_bytes=140_000_000,
    disk_bytes=2_000_000,
    patience=4,
    measured_steps=1,
)


def test_the_plan_is_a_line():
    assert describe(PLANNED) == [
        "Plan    muon 0.02, batch 512 tokens (padding 1.5 %), 1 step = 0.5 epochs at most, "
        "patience 4   ~1m15s, 140 MB memory, 2 MB disk   (measured on 1 step)"
    ]


def test_a_budget_too_short_for_one_pass_is_said_with_the_plan():
    plan = msgspec.structs.replace(PLANNED, total_steps=12, steps_per_epoch=1600, pass_minutes=96)
    assert describe(plan)[1:] == [
        "Warning 12 steps see 0.75 % of the data, once.  One pass over all of it: --minutes 96; "
        "a good model takes several"
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps_per_epoch": 1}, "1 step on all rows at most"),
        ({"total_steps": 1200}, "1,200 steps = 600.0 epochs at most"),
        ({"measured_steps": 3}, "(measured on 3 steps)"),
        ({"has_budget": True}, "(padding 1.5 %), about 1 step = 0.5 epochs, patience 4"),
    ],
    ids=str,
)
def test_one_step_is_no_steps(changes, words):
    (line,) = describe(msgspec.structs.replace(PLANNED, **changes))
    assert words in line


@pytest.mark.parametrize(("number", "words"), [(28_610, "28,610 parameters"), (654_850, "0.7 M")])
def test_a_small_model_does_not_have_0_parameters(number, words):
    event = ModelSummary(summary="bert tiny", num_parameters=number, precision="bf16")
    assert describe(event) == [f"Model   bert tiny   {words}   bf16"]


FINISHED = Finished(
    step=120,
    best_step=100,
    score_name="chrf",
    valid={},
    test={},
    summary="valid chrF 9.1",
    seconds=60.0,
    estimate=58.0,
    folder="ende",
    tries=[],
)


@pytest.mark.parametrize(
    ("planned", "clause"),
    [(None, ""), (1500, "120 of 1,500 planned steps: the machine was slower than measured   ")],
)
def test_a_plan_that_was_cut_short_is_said_at_the_end(planned, clause):
    assert describe(msgspec.structs.replace(FINISHED, planned_steps=planned)) == [
        f"Done    best step 100, valid chrF 9.1   {clause}1m00s (estimate 58s)   "
        "card: ende/README.md"
    ]


def test_a_notebook_has_one_line_of_progress_that_is_updated(monkeypatch, capsys):
    shown = []

    def display(content, *, raw, display_id):
        shown.append(content)
        return SimpleNamespace(update=lambda content, raw: shown.append(content))

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr(console, "is_notebook", lambda: True)
    progress = Progress(
        step=1,
        total_steps=4,
        epoch=1,
        loss=2.5,
        tokens_per_second=100.0,
        elapsed=1.0,
        left=3.0,
        num_passes=1.0,
        gradient_norm=1.0,
        is_full_batch=False,
    )
    with make_report(json=False) as report:
        report(progress)
        report(Warned(text="A line."))
        report(msgspec.structs.replace(progress, step=2))
    assert capsys.readouterr().out == "Note    A line.\n"
    assert len(shown) == 2
    assert "1/4" in shown[0]["text/plain"] and "2/4" in shown[1]["text/plain"]


WORKING = WorkingOn(stage="reading pairs.tsv", done=45, total=180, unit="MB")


def test_long_work_has_a_line_in_a_file_every_half_minute(monkeypatch, capsys):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(console.time, "monotonic", lambda: clock.now)
    with make_report(json=False) as report:
        for clock.now in (5.0, 29.0, 31.0, 40.0, 62.0):
            report(WORKING)
    assert capsys.readouterr().out == 2 * "        reading pairs.tsv: 45 of 180 MB\n"


def test_long_work_is_an_object_of_json(capsys):
    with make_report(json=True) as report:
        report(WORKING)
    assert msgspec.json.decode(capsys.readouterr().out) == {
        "event": "working",
        "stage": "reading pairs.tsv",
        "done": 45,
        "total": 180,
        "unit": "MB",
    }


def test_long_work_has_a_bar_on_a_terminal():
    assert console._working_line(WORKING).strip() == (
        "████░░░░░░░░░░░░ reading pairs.tsv: 45 of 180 MB"
    )


def test_color_that_is_forced_makes_no_moving_lines_in_a_file(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    assert not is_interactive()
