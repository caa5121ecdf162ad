"""A run that is interrupted, killed or crashed goes on to the same bits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time

import pytest
from tests.conftest import TINY, toy_pairs, write_tsv
from tests.processes import start_command

import regard
from regard import load
from regard.cli.wording import error_text
from regard.errors import ConfigError, DataError, WeightsError
from regard.hub.model_folder import ModelFolder
from regard.hub.storage import read_tensors
from regard.runs.information import inspect_folder
from regard.runs.run import resume, train
from regard.setup.config import RunConfig
from regard.training.checkpoint import checkpoint_path
from regard.training.events import Evaluated, Progress, Saved
from regard.training.signals import Stopped

EVERY_STEP = (*TINY, "training.checkpoint_seconds=0.0")
TIMED = {"elapsed", "left", "tokens_per_second", "seconds", "estimate", "folder", "tries"}


class Crash(Exception):  # noqa: N818 - it stands for an event
    """Stands for a power cut: nothing is saved when it comes."""


def crash_after(step):
    """Make a report that dies right after the checkpoint of a step."""

    def report(event):
        if isinstance(event, Saved) and event.step >= step:
            raise Crash

    return report


def essence(folder):
    """Return everything of a finished run that must not depend on time or interruptions."""
    weights = ModelFolder(folder).weights_path.read_bytes()
    tensors, _ = read_tensors(checkpoint_path(folder))
    lines = ModelFolder(folder).read_metrics()
    kept = [{key: value for key, value in line.items() if key not in TIMED} for line in lines]
    return weights, {name: value.tolist() for name, value in tensors.items()}, kept


@pytest.fixture(scope="module")
def straight(tmp_path_factory, pairs_file):
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("straight") / "model"
    train(pairs_file, folder, settings=EVERY_STEP)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_run_that_crashes_at_random_steps_ends_with_the_same_bits(tmp_path, few_pairs_file, name):
    settings = (*EVERY_STEP, f"optimizer.name={name}", "model.dropout=0.1")
    train(few_pairs_file, tmp_path / "straight", settings=settings)
    total = ModelFolder(tmp_path / "straight").read_metrics()[-1]["step"]
    steps = sorted(random.Random(7).sample(range(1, total), 2))
    with pytest.raises(Crash):
        train(few_pairs_file, tmp_path / "broken", settings=settings, report=crash_after(steps[0]))
    for step in steps[1:]:
        with pytest.raises(Crash):
            resume(tmp_path / "broken", report=crash_after(step))
    resume(tmp_path / "broken")
    assert essence(tmp_path / "broken") == essence(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dropout"),
    [
        ("cg", 0.1),
        ("newton-cg", 0.1),
        ("lbfgs", 0.1),
        ("gradient-descent", 0.0),
        ("adam-then-cg", 0.1),
    ],
)
def test_a_run_on_all_rows_that_crashes_ends_with_the_same_bits(
    tmp_path, few_pairs_file, name, dropout
):
    settings = (
        *EVERY_STEP,
        f"optimizer.name={name}",
        f"model.dropout={dropout}",
        "training.epochs=5",
        "training.batch_tokens=256",
    )
    train(few_pairs_file, tmp_path / "straight", settings=settings)
    with pytest.raises(Crash):
        train(few_pairs_file, tmp_path / "broken", settings=settings, report=crash_after(2))
    with pytest.raises(Crash):
        resume(tmp_path / "broken", report=crash_after(4))
    resume(tmp_path / "broken")
    assert essence(tmp_path / "broken") == essence(tmp_path / "straight")


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bits(
    tmp_path, pairs_file, straight
):
    folder = tmp_path / "killed"
    settings = [word for setting in EVERY_STEP for word in ("--set", setting)]
    start = ("train", "-o", folder, pairs_file, *settings)
    resumed = ("train", "-o", folder, "--resume")
    rng = random.Random(3)
    for attempt in range(4):
        process = start_command(*(resumed if attempt else start), output=tmp_path / "printed")
        wait_for(lambda p=process: checkpoint_path(folder).exists() or not p.is_alive())
        time.sleep(rng.uniform(0.0, 0.8))
        process.kill()
        process.join()
    if not ModelFolder(folder).is_finished:
        resume(folder)
    assert essence(folder) == essence(straight)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_reports_how_to_continue_and_leaves_a_usable_model(
    tmp_path, pairs_file, signum, code
):
    folder = tmp_path / "model"
    settings = [w for s in (*TINY, "training.epochs=1000") for w in ("--set", s)]
    printed = tmp_path / "printed"
    process = start_command("train", pairs_file, "-o", folder, *settings, output=printed)
    wait_for(lambda: checkpoint_path(folder).exists() or not process.is_alive())
    time.sleep(0.5)
    os.kill(process.pid, signum)
    process.join(60)
    assert process.exitcode == code
    assert f"Continue: regard train -o {folder} --resume" in printed.read_text()

    assert len(load(folder).translate(["3 red cat sees the dog"])) == 1


@pytest.mark.slow
def test_a_request_to_stop_in_the_same_process_is_heeded(tmp_path, pairs_file):
    requests = []

    def interrupt(event):
        if isinstance(event, Progress | Evaluated) and not requests:  # a second signal would kill
            requests.append(event)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(pairs_file, tmp_path / "model", settings=TINY, report=interrupt)
    assert not ModelFolder(tmp_path / "model").is_finished


def test_the_steps_before_the_first_evaluation_are_those_of_the_checkpoint(tmp_path, pairs_file):
    folder = tmp_path / "model"
    with pytest.raises(Crash):
        train(pairs_file, folder, settings=EVERY_STEP, report=crash_after(3))
    information = inspect_folder(folder)[0]
    assert (information.step, information.num_evaluations) == (3, 0)


def test_a_finished_run_is_left_as_it_is(straight):
    before = essence(straight)
    resume(straight)
    assert essence(straight) == before


@pytest.mark.slow
def test_revisions_of_a_time_budget_are_kept_and_the_elapsed_time_survives(tmp_path, pairs_file):
    settings = (*TINY[:-1], "training.minutes=2", "training.evaluations=120")
    folder = tmp_path / "model"

    def crash_when_revised():
        seen = []

        def report(event):
            seen.append(type(event))
            if isinstance(event, Saved) and Evaluated in seen:
                raise Crash

        return report

    with pytest.raises(Crash):
        train(pairs_file, folder, settings=settings, report=crash_when_revised())
    _, state = read_tensors(checkpoint_path(folder))
    before = state["counters"]
    with pytest.raises(Crash):
        resume(folder, report=crash_when_revised())
    _, state = read_tensors(checkpoint_path(folder))
    after = state["counters"]
    kept = len(before["plan"]["revisions"])
    assert kept >= 2
    assert after["plan"]["revisions"][:kept] == before["plan"]["revisions"]
    assert after["elapsed"] > before["elapsed"]


def test_a_folder_that_holds_a_run_is_not_overwritten(straight, pairs_file):
    with pytest.raises(ConfigError) as raised:
        train(pairs_file, straight, settings=TINY)
    assert error_text(raised.value) == (
        f"{straight}: already holds a finished model; nothing was changed.  "
        f"Train a new model: another -o.  Resume: regard train -o {straight} --resume"
    )


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_starts_again_with_the_same_settings(
    tmp_path, pairs_file, straight, monkeypatch
):
    folder = tmp_path / "model"

    def crash(*arguments):
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr("regard.runs.session.save_checkpoint", crash)
        train(pairs_file, folder, settings=EVERY_STEP)
    assert (folder / "config.toml").is_file()
    resume(folder)
    assert essence(folder) == essence(straight)


@pytest.mark.slow
def test_data_that_has_changed_since_is_refused(tmp_path):
    data = write_tsv(tmp_path / "pairs.tsv", toy_pairs(100))
    with pytest.raises(Crash):
        train(data, tmp_path / "model", settings=EVERY_STEP, report=crash_after(1))
    write_tsv(data, toy_pairs(101))
    with pytest.raises(DataError, match=r"has changed since this run began \(sha256 differs\)"):
        resume(tmp_path / "model")


@pytest.mark.slow
def test_rows_that_are_read_in_another_way_are_refused(tmp_path):
    data = write_tsv(tmp_path / "pairs.tsv", toy_pairs(100))
    with pytest.raises(Crash):
        train(data, tmp_path / "model", settings=EVERY_STEP, report=crash_after(1))
    manifest = tmp_path / "model" / "manifest.json"
    document = json.loads(manifest.read_bytes())
    other = document | {"rows": document["rows"][::-1]}  # as of a reader that drops other rows
    manifest.write_text(json.dumps(other))
    with pytest.raises(DataError, match="other rows are read of it than when this run began"):
        resume(tmp_path / "model")
    manifest.write_text(json.dumps(document | {"rows": ""}))  # of an earlier version
    (tmp_path / "model" / "data_report.txt").write_text("pairs.tsv:1: ...\npairs.tsv:2: ...\n")
    texts = []

    def stop_at_warning(event):
        texts.append(getattr(event, "text", ""))
        crash_after(2)(event)

    with pytest.raises(Crash):
        resume(tmp_path / "model", report=stop_at_warning)
    assert any("the run may continue on other rows" in text for text in texts)


@pytest.mark.slow
def test_a_run_that_leaves_out_long_pairs_is_resumed_on_the_rows_that_it_began_with(tmp_path):
    rows = [*toy_pairs(100), ("blue " * 300, "bleu " * 300)]
    data, texts = write_tsv(tmp_path / "pairs.tsv", rows), []
    manifest = tmp_path / "model" / "manifest.json"

    def crash_at_evaluation(event):
        texts.append(getattr(event, "text", ""))
        if isinstance(event, Evaluated):
            raise Crash

    settings = (*TINY, "data.max_length=64")
    with pytest.raises(Crash):
        train(data, tmp_path / "model", settings=settings, report=crash_at_evaluation)
    assert "longer than 64 tokens" in (tmp_path / "model" / "data_report.txt").read_text()
    document = json.loads(manifest.read_bytes())
    for rows_sha256 in (document["rows"], ""):  # without one, as of an earlier version
        manifest.write_text(json.dumps(document | {"rows": rows_sha256}))
        with pytest.raises(Crash):
            resume(tmp_path / "model", report=crash_at_evaluation)
    assert not any("other rows" in text for text in texts)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_reported_by_its_checksum(tmp_path, pairs_file):
    with pytest.raises(Crash):
        train(pairs_file, tmp_path / "model", settings=EVERY_STEP, report=crash_after(2))
    path = checkpoint_path(tmp_path / "model")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="damaged: the checksum does not agree"):
        resume(tmp_path / "model")


def test_the_configuration_is_written_with_path_and_hash_of_the_data(straight, pairs_file):
    config = ModelFolder(straight).read_config(RunConfig)
    assert config.data.path == str(pairs_file)
    assert len(config.data.sha256) == 64
    assert config.training.precision in ("bf16", "float32")


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
