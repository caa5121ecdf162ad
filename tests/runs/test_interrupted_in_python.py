"""An interrupted run in Python: a `KeyboardInterrupt`, resumed from another working directory."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
from tests.conftest import TINY

import regard
from regard.cli.console import is_interactive
from regard.errors import DataError
from regard.hub.model_folder import ModelFolder
from regard.training.events import Evaluated
from regard.training.signals import Stopped


def interrupt_after_an_evaluation(event):
    if isinstance(event, Evaluated) and event.step < event.total_steps:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interrupted(tmp_path, monkeypatch, pairs_file):
    """The folder of a run that was interrupted, with relative paths, and not seen as an error."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    shutil.copy(pairs_file, tmp_path / "here" / "pairs.tsv")
    monkeypatch.chdir(tmp_path / "here")
    seen = []
    with pytest.raises(KeyboardInterrupt) as caught:
        for seed in (1, 2):
            try:
                seen.append(seed)
                regard.train(
                    "pairs.tsv",
                    "model",
                    seed=seed,
                    settings=TINY,
                    report=interrupt_after_an_evaluation,
                )
            except Exception:  # noqa: BLE001 - what a loop over settings often has
                pass
    assert seen == [1]
    assert isinstance(caught.value, Stopped) and caught.value.exit_code == 130
    assert str(caught.value) == "SIGINT: the run is saved and can be resumed"
    return tmp_path / "here" / "model"


@pytest.mark.slow
def test_a_run_is_resumed_from_another_working_directory(interrupted, monkeypatch):
    monkeypatch.chdir(interrupted.parent.parent / "there")
    metrics = interrupted / "metrics.jsonl"
    before, file = metrics.read_bytes(), metrics.stat().st_ino
    regard.resume("../here/model", report=None)
    after = metrics.read_bytes()
    assert after.startswith(before) and len(after) > len(before)
    assert metrics.stat().st_ino == file  # appended to, not replaced
    assert json.loads(after.splitlines()[-1])["event"] == "finished"


@pytest.mark.slow
def test_another_file_of_the_same_name_is_not_taken_for_the_data(interrupted, monkeypatch):
    there = interrupted.parent.parent / "there"
    (there / "pairs.tsv").write_text("a\tb\n" * 20)
    monkeypatch.chdir(there)
    (interrupted.parent / "pairs.tsv").write_text("c\td\n" * 20)
    with pytest.raises(DataError, match=r"here/pairs\.tsv: has changed since this run began"):
        regard.resume(interrupted, report=None)
    assert len(ModelFolder(interrupted).read_metrics()) == 1


def test_color_that_is_forced_makes_no_moving_lines_in_a_file(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    assert not is_interactive()
