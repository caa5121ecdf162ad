"""``regard train --live``: a page next to a run, which goes on as it would without."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from tests.cli.commands import SETTINGS, run
from tests.conftest import TINY

from regard.cli import live
from regard.hub.model_folder import ModelFolder
from regard.runs.run import train
from regard.training.events import Evaluated, Finished, Progress
from regard.training.signals import Stopped


def state_of(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/state", timeout=20) as response:
        return json.load(response)


def ignore(_):
    """Report nothing."""


@pytest.mark.slow
def test_a_run_is_bit_identical_with_a_page_that_somebody_reads(tmp_path, few_pairs_file, capsys):
    states, plain, shown = [], [], []
    train(few_pairs_file, tmp_path / "plain", settings=TINY, report=plain.append)
    options = live.LiveOptions(live_port=0)
    folder = str(tmp_path / "shown")
    with live.show_live(options, folder, shown.append, json=True) as report:
        url = json.loads(capsys.readouterr().out)["url"]
        reader = urllib.request.urlopen(f"{url}/events", timeout=60)
        reading = threading.Thread(target=reader.read)
        reading.start()
        train(few_pairs_file, folder, settings=TINY, report=report)
        states.append(state_of(url))
    reading.join(timeout=60)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "shown")]
    assert weights[0] == weights[1]
    (state,) = states
    evaluations = [event for event in shown if isinstance(event, Evaluated)]
    points = [point["train_loss"] for point in state["evaluated"]]
    assert points == [event.train_loss for event in evaluations]
    assert points == [event.train_loss for event in plain if isinstance(event, Evaluated)]
    steps = [event.step for event in shown if isinstance(event, Progress)]
    assert [point["step"] for point in state["progress"]] == steps
    (finished,) = [event for event in shown if isinstance(event, Finished)]
    assert state["latest"]["finished"]["test"] == finished.test
    assert state["latest"]["finished"]["tries"][0].startswith("regard translate ")
    examples = state["latest"]["evaluated"]["examples"]
    assert len(examples) == 5
    assert all(example["source"] and example["reference"] for example in examples)
    assert "examples" not in ModelFolder(folder).read_metrics()[0]


@pytest.mark.slow
def test_json_says_the_address_first(capsys, tmp_path, few_pairs_file):
    arguments = ("train", few_pairs_file, "-o", tmp_path / "m", *SETTINGS, "--json")
    code, out, _ = run(capsys, *arguments, "--live-port", 0)
    first, *others = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert first["event"] == "live"
    assert first["url"].startswith("http://127.0.0.1:")
    assert others[-1]["event"] == "finished"


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_next_to_the_address(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        options = live.LiveOptions(live=True, live_port=port)
        with live.show_live(options, str(tmp_path), ignore, json=False):
            pass
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Live    http://127.0.0.1:")
    assert line.endswith(f"   open it in a browser   (port {port} is taken)")


def test_without_the_option_there_is_no_page(capsys, tmp_path):
    with live.show_live(live.LiveOptions(), str(tmp_path), ignore, json=False) as report:
        assert report is ignore
    assert capsys.readouterr().out == ""


def test_the_command_that_continues_a_run_names_the_port(tmp_path, monkeypatch):
    runs = []

    @contextmanager
    def serve(run, port, events):
        runs.append(run["resume"])
        yield SimpleNamespace(url="", is_on_wanted_port=True, add=ignore)

    monkeypatch.setattr("regard.serving.live.server.serve_run", serve)
    for options in (live.LiveOptions(live=True), live.LiveOptions(live_port=9000)):
        with live.show_live(options, "m", ignore, json=True):
            pass
    assert runs == [
        "regard train -o m --resume --live",
        "regard train -o m --resume --live-port 9000",
    ]


@pytest.mark.slow
def test_the_page_says_why_a_run_has_ended(capsys, tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr("regard.serving.live.server.LivePage.add", lambda _, f: served.append(f))
    options = live.LiveOptions(live_port=0)
    for error in (Stopped(2), OSError("disk")):
        with (
            pytest.raises(type(error)),
            live.show_live(options, str(tmp_path), ignore, json=False),
        ):
            raise error
    assert served == [
        {"event": "ended", "has_failed": True, "text": ""},
        {"event": "ended", "has_failed": True, "text": "disk"},
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--live", "--dry-run"), "--live shows a run, and --dry-run trains nothing"),
        (("--live-port", 8642, "--dry-run"), "--live shows a run"),
        (("--live-port", 70_000), "--live-port"),
        (("--live-port", "no"), "--live-port"),
        (("--no-live",), "--no-live"),
    ],
)
def test_wrong_options_are_refused_by_name(capsys, few_pairs_file, tmp_path, words, message):
    code, out, err = run(capsys, "train", few_pairs_file, "-o", tmp_path / "m", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "m").exists()


def test_without_the_extra_it_says_what_to_install(capsys, few_pairs_file, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "_NEEDED", ("starlette", "no_such_server"))
    code, _, err = run(capsys, "train", few_pairs_file, "-o", tmp_path / "m", "--live")
    assert code == 2
    assert err == "regard: --live needs no_such_server.  Install: pip install 'regard[serve]'\n"


def test_a_finished_run_that_is_resumed_has_no_page(capsys, trained):
    code, out, _ = run(capsys, "train", "-o", trained, "--resume", "--live")
    assert code == 0
    assert "Live" not in out


@pytest.mark.slow
def test_the_end_waits_for_nobody(tmp_path):
    with live.show_live(live.LiveOptions(live_port=0), str(tmp_path), ignore, json=True):
        start = time.monotonic()
    assert time.monotonic() - start < 5
