"""The curves that a run leaves in its folder, and what happens where they cannot be drawn."""

from __future__ import annotations

import errno
import re
import shutil
import sys
from pathlib import Path

import pytest
from tests.conftest import TINY
from tests.plots.read_svg import Svg

from regard.errors import WeightsError
from regard.hub.manifest import Manifest
from regard.hub.model_folder import ModelFolder
from regard.plots import curves, style
from regard.plots.curves import draw_curves  # before runs of tests draw none
from regard.runs.pictures import write_curves
from regard.runs.run import train
from regard.training.events import Drawn, Evaluated, Finished, Interrupted, Saved, Warned

SHORT = (*TINY[:-1], "training.epochs=1")


@pytest.fixture(autouse=True)
def real_curves(monkeypatch):
    """Draw."""
    monkeypatch.setattr(curves, "draw_curves", draw_curves)


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the finished run, without its checkpoint."""
    path = tmp_path / "model"
    shutil.copytree(trained, path, ignore=shutil.ignore_patterns("checkpoints"))
    return ModelFolder(path)


@pytest.mark.slow
def test_a_run_leaves_its_curves_also_when_it_is_stopped_and_resumed(stopped_and_resumed):
    run = stopped_and_resumed
    kinds = [type(event) for event in run.first_events]
    assert kinds[kinds.index(Interrupted) :] == [Interrupted, Drawn]
    assert run.first_events[-1].path == str(run.folder / "curves.svg")
    assert [type(event) for event in run.second_events[-2:]] == [Drawn, Finished]
    texts = Svg(run.folder / "curves.svg").texts
    assert {"loss (nats per token)", "training", "validation", "learning rate"} <= set(texts)
    assert texts != run.first_texts
    assert "](curves.svg)" in (run.folder / "README.md").read_text(encoding="utf-8")
    rates = [line["learning_rate"] for line in ModelFolder(run.folder).read_metrics()[:-1]]
    assert len(rates) == 2 and rates[0] > rates[1] > 0


def test_the_curves_are_no_part_of_the_model(folder):
    assert write_curves(folder, "nats") == Drawn(path=str(folder.path / "curves.svg"))
    (folder.path / "curves.svg").write_text("changed by hand")
    Manifest(folder.path).check()
    assert "curves.svg" not in Manifest(folder.path).accept()


def test_a_run_without_evaluations_has_no_picture(folder):
    folder.write_metrics([])
    assert write_curves(folder, "nats") is None
    assert not (folder.path / "curves.svg").exists()


def refuse_to_write(path: Path, content: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.mark.parametrize(
    ("target", "name", "value", "reason"),
    [
        (Path, "write_bytes", refuse_to_write, r"curves\.svg: cannot be written \(No space left"),
        (style.Page, "encode", lambda _: 1 / int("x"), r"curves\.svg: not drawn \(invalid literal"),
        (style.Page, "encode", lambda _: bytes(1 << 62), r"curves\.svg: not drawn \(out of memory"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_a_warning(
    folder, monkeypatch, target, name, value, reason
):
    monkeypatch.setattr(target, name, value)
    warning = write_curves(folder, "nats")
    assert isinstance(warning, Warned)
    assert re.match(rf"No picture of the curves\.  .*{reason}", warning.text)
    assert [file.name for file in folder.path.iterdir() if "curves" in file.name] == []


def test_without_matplotlib_a_run_has_a_warning_in_place_of_its_curves(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    warning = write_curves(folder, "nats")
    assert isinstance(warning, Warned)
    assert "pictures need matplotlib" in warning.text and "pip install" in warning.text


@pytest.mark.slow
def test_a_run_that_fails_shows_how_far_it_came(pairs_file, tmp_path):
    events = []

    def damage(event):
        if isinstance(event, Evaluated):
            events.append(event)
        if isinstance(event, Saved) and events:
            raise WeightsError("loss is nan.")

    with pytest.raises(WeightsError, match="loss is nan"):
        train(pairs_file, tmp_path / "model", settings=SHORT, report=damage)
    assert "best, step 12" in Svg(tmp_path / "model" / "curves.svg").texts
