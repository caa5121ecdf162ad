"""One run a folder; a lock of a dead process locks nobody out; a deleted folder ends the run."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.conftest import TINY
from tests.processes import start_process

from regard.errors import ConfigError, DataError
from regard.hub.folder_lock import FolderLock
from regard.runs import run as runs
from regard.runs.run import estimate, resume, train
from regard.training.events import Evaluated, Planned, Progress


def hold(folder: Path, locked: Path) -> None:
    """Hold a folder, and say so by a file."""
    with FolderLock(folder):
        locked.touch()
        time.sleep(600)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder ``model``."""
    process = start_process(hold, tmp_path / "model", tmp_path / "locked")
    while not (tmp_path / "locked").exists():
        assert process.is_alive()
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


@pytest.mark.slow
def test_a_second_process_is_refused_with_the_name_of_the_first(holder, tmp_path):
    with (
        pytest.raises(ConfigError, match=rf"in use by process {holder.pid} on ") as caught,
        FolderLock(tmp_path / "model"),
    ):
        pass
    assert "choose another folder with `output`." in str(caught.value)


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert (tmp_path / "model" / ".lock").exists()
    with FolderLock(tmp_path / "model") as lock:
        lock.check()
    assert not (tmp_path / "model" / ".lock").exists()


@pytest.mark.parametrize("call", ["flock", "write"])
def test_a_lock_that_fails_leaves_no_file(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr({"flock": fcntl, "write": os}[call], call, fail)
    with pytest.raises(ConfigError, match="cannot be written"), FolderLock(tmp_path / "a" / "m"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_be_written_is_not_sent_to_another_folder(tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "config.toml").write_text("")
    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(ConfigError) as caught, FolderLock(tmp_path):
        pass
    assert str(caught.value) == (
        f"{tmp_path}: cannot be written (Permission denied).  "
        f"Allow it: chmod -R u+w {tmp_path}, or resume a copy: cp -r {tmp_path} COPY"
    )


@pytest.mark.slow
def test_a_run_in_use_is_to_be_waited_for_by_who_resumes_it(holder, tmp_path):
    (tmp_path / "model" / "config.toml").write_text("")
    with pytest.raises(ConfigError, match=r"Wait until it ends\.$"), FolderLock(tmp_path / "model"):
        pass


def test_only_one_of_many_that_start_at_once_gets_the_folder(tmp_path):
    barrier, release = threading.Barrier(8), threading.Event()
    outcomes = []

    def work():
        barrier.wait()
        try:
            with FolderLock(tmp_path / "a" / "model"):
                outcomes.append("held")
                release.wait(30)
        except ConfigError:
            outcomes.append("refused")
            if outcomes.count("refused") == 7:
                release.set()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held"] + 7 * ["refused"]


def test_a_run_that_is_refused_leaves_no_folder(tmp_path):
    with pytest.raises(DataError, match=r"missing\.tsv: no such file"):
        train(tmp_path / "missing.tsv", tmp_path / "new" / "model", settings=TINY)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_second_run_is_refused_while_the_first_still_plans(few_pairs_file, tmp_path):
    folder, refusals = tmp_path / "model", []

    def start_another(event):
        if isinstance(event, Planned):
            assert not (folder / "config.toml").exists()
            with pytest.raises(ConfigError) as caught:
                train(few_pairs_file, folder, settings=TINY)
            refusals.append(str(caught.value))

    train(few_pairs_file, folder, settings=[*TINY, "training.epochs=1"], report=start_another)
    assert [f"in use by process {os.getpid()} on" in text for text in refusals] == [True]


@pytest.mark.slow
def test_a_folder_that_is_deleted_ends_the_run_and_is_not_made_again(few_pairs_file, tmp_path):
    folder = tmp_path / "model"

    def delete(event):
        if isinstance(event, Progress | Evaluated) and folder.exists():
            shutil.rmtree(folder)

    with pytest.raises(ConfigError, match="was deleted or moved"):
        train(few_pairs_file, folder, settings=TINY, report=delete)
    assert not folder.exists()


class KilledError(Exception):
    pass


@pytest.fixture
def stopped(few_pairs_file, tmp_path):
    """A run with a file of validation pairs, stopped after its first evaluation."""
    valid = shutil.copy(few_pairs_file, tmp_path / "valid.tsv")
    folder = tmp_path / "model"

    def stop(event):
        if isinstance(event, Evaluated):
            raise KilledError

    settings = [*TINY, f"data.valid={valid}", "data.allow_overlap=true"]
    with pytest.raises(KilledError):
        train(few_pairs_file, folder, settings=settings, report=stop)
    return folder


def test_a_changed_validation_file_is_refused_by_name(stopped, tmp_path):
    with (tmp_path / "valid.tsv").open("a", encoding="utf-8") as file:
        file.write("one more\tnoch einer\n")
    with pytest.raises(DataError, match=r"valid\.tsv: has changed since this run began"):
        resume(stopped)


@pytest.mark.slow
def test_a_missing_checkpoint_is_reported_before_the_run_starts_again(stopped):
    (stopped / "checkpoints" / "last.safetensors").unlink()
    texts = []
    resume(stopped, report=lambda event: texts.append(getattr(event, "text", "")))
    assert any("last.safetensors is missing: the run starts again" in text for text in texts)


@pytest.mark.slow
def test_a_run_that_continues_is_in_use_and_not_one_to_resume(few_pairs_file, tmp_path):
    folder, refusals = tmp_path / "model", []

    def start_another(event):
        if isinstance(event, Evaluated) and not refusals:
            for is_dry in (False, True):
                with pytest.raises(ConfigError) as caught:
                    if is_dry:
                        estimate(few_pairs_file, folder, settings=TINY)
                    else:
                        train(few_pairs_file, folder, settings=TINY)
                refusals.append(str(caught.value))

    train(few_pairs_file, folder, settings=[*TINY, "training.epochs=1"], report=start_another)
    held = f"{folder}: in use by process {os.getpid()} on "
    assert [text.startswith(held) for text in refusals] == [True, True]
    with pytest.raises(ConfigError, match="already holds a finished model"):
        train(few_pairs_file, folder, settings=TINY)


def test_the_folder_is_locked_before_the_data_is_read(tmp_path, monkeypatch):
    seen = []

    def read(*arguments, **options):
        seen.append((tmp_path / "model" / ".lock").exists())
        raise DataError("stop here")

    monkeypatch.setattr(runs.RunSession, "from_request", read)
    with pytest.raises(DataError, match=r"^stop here$"):
        train(tmp_path / "pairs.tsv", tmp_path / "model")
    assert seen == [True]
    assert not (tmp_path / "model").exists()


def test_a_folder_within_the_data_is_made_only_after_the_data_is_read(tmp_path, monkeypatch):
    seen = []

    def read(*arguments, **options):
        seen.append((tmp_path / "model").exists())
        raise DataError("stop here")

    monkeypatch.setattr(runs.RunSession, "from_request", read)
    with pytest.raises(DataError, match=r"^stop here$"):
        train(tmp_path, tmp_path / "model")
    assert seen == [False]
