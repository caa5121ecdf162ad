"""Event files of TensorBoard: what they hold, and what happens without the package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from tests.conftest import TINY
from tests.runs.event_writer import Writer, use_writers

from regard.__main__ import main
from regard.errors import ConfigError
from regard.hub.model_folder import ModelFolder
from regard.runs.event_files import EventFiles
from regard.runs.run import estimate, train
from regard.training.events import Progress, Warned

ASKED = (*TINY, "training.tensorboard=true")
PROGRESS = Progress(
    step=7, total_steps=9, epoch=1, loss=2.5, tokens_per_second=1.0, elapsed=1.0, left=1.0
)


@pytest.fixture
def writers(monkeypatch):
    """The writers that are made."""
    return use_writers(monkeypatch)


@pytest.mark.slow
def test_a_run_writes_its_figures_also_when_it_is_resumed(stopped_and_resumed):
    path, (first, second) = stopped_and_resumed.folder, stopped_and_resumed.writers
    assert (first.folder, second.folder) == (str(path / "tensorboard"),) * 2
    assert first.is_closed and second.is_closed
    lines = ModelFolder(path).read_metrics()
    assert (first.purge_step, second.purge_step) == (None, lines[0]["step"] + 1)
    for writer, line in zip((first, second), lines, strict=False):
        step = line["step"]
        assert writer.scalars["loss/train", step] == line["train_loss"]
        assert writer.scalars["loss/valid", step] == line["measures"]["loss"]
        assert writer.scalars["valid/chrf", step] == line["measures"]["chrf"]
        assert writer.scalars["run/learning_rate", step] == line["learning_rate"]
        assert writer.scalars["gradient_norm/encoder.0", step] > 0
    finished = lines[-1]
    assert second.scalars["test/chrf", finished["best_step"]] == finished["test"]["chrf"]


def test_the_loss_between_evaluations_is_written(tmp_path, writers):
    EventFiles(tmp_path, lambda _: None).write(PROGRESS)
    assert writers[0].scalars == {("loss/recent", 7): 2.5}


def test_a_full_disk_ends_the_event_files_and_not_the_run(tmp_path, writers, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    events = []
    monkeypatch.setattr(Writer, "add_scalar", fail)
    files = EventFiles(tmp_path, events.append)
    files.write(PROGRESS)
    files.write(PROGRESS)
    files.close()
    text = "No more event files for TensorBoard (No space left on device)."
    assert events == [Warned(text=text)]


def test_without_the_package_a_run_is_refused_at_its_start(pairs_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for function in (train, estimate):
        with pytest.raises(ConfigError, match=r"pip install 'regard\[tensorboard\]'"):
            function(tmp_path / "missing.tsv", tmp_path / "model", settings=ASKED)
    assert list(tmp_path.iterdir()) == []


def test_the_option_is_named_where_the_package_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(["train", "missing.tsv", "-o", str(tmp_path / "m"), "--tensorboard"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("regard: --tensorboard: needs the package tensorboard (")
    assert err.endswith(").  Install it: pip install 'regard[tensorboard]'\n")


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_tensorboard_reads_the_files(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = EventFiles(tmp_path, lambda _: None)
    files.write(PROGRESS)
    files.close()
    read = EventAccumulator(str(Path(tmp_path) / "tensorboard"))
    read.Reload()
    (scalar,) = read.Scalars("loss/recent")
    assert (scalar.step, scalar.value) == (7, 2.5)
