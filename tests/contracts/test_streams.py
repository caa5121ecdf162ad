"""Data from a pipe, from standard input and from a file is the same to every verb."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from contextlib import contextmanager

import pytest
from tests.conftest import TINY, toy_pairs

from regard.__main__ import main
from regard.runs import session
from regard.training.signals import Stopped

SETTINGS = [word for setting in (*TINY, "training.epochs=1") for word in ("--set", setting)]
LM_SETTINGS = [
    word
    for setting in ("preset=tiny", "model.dim=16", "model.hidden_dim=32", "model.num_heads=2")
    for word in ("--set", setting)
] + ["--set", "model.num_layers=1", "--set", "training.epochs=1"]

PAIRS = "".join(f"{source}\t{target}\n" for source, target in toy_pairs(60))
LABELED = "".join(
    json.dumps({"text": source, "label": source.split()[1]}) + "\n" for source, _ in toy_pairs(60)
)
CSV = "English,German\n" + PAIRS.replace("\t", ",")
TEXT = "".join(f"{source}.\n" for source, _ in toy_pairs(60))
KINDS = {
    "pairs": (".tsv", PAIRS, SETTINGS),
    "pairs in columns": (".csv", CSV, SETTINGS),
    "labeled": (".jsonl", LABELED, LM_SETTINGS),
    "text": (".txt", TEXT, LM_SETTINGS),
}
NAMES = ("file", "-", "/dev/stdin", "pipe")


@contextmanager
def fed(name, text, suffix, monkeypatch, folder):
    """Provide data under a name of the command line, the way a shell does."""
    if name == "file":
        path = folder / f"data{suffix}"
        path.write_text(text, encoding="utf-8")
        yield str(path)
    elif name == "pipe":  # what <(cat FILE) becomes
        reader, writer = os.pipe()

        def write():
            with os.fdopen(writer, "w", encoding="utf-8") as stream:
                stream.write(text)

        thread = threading.Thread(target=write)
        thread.start()
        yield f"/dev/fd/{reader}"
        os.close(reader)
        thread.join()
    else:
        stdin = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
        monkeypatch.setattr(sys, "stdin", stdin)
        yield name


def stop(*arguments):
    """Stand for a run that is stopped by Ctrl-C after its first checkpoint."""
    raise Stopped(signal.SIGINT)


def call(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_check_says_the_same_of_a_file_and_of_a_stream(kind, capsys, monkeypatch, tmp_path):
    suffix, text, _ = KINDS[kind]
    reports = []
    for name in NAMES:
        with fed(name, text, suffix, monkeypatch, tmp_path) as path:
            reports.append(json.loads(call(capsys, "check", path, "--json")))
        assert reports[-1].pop("path") == path
        # A stream cannot be read again by the next command.
        assert (reports[-1].pop("next") is None) == (name != "file")
    assert reports[1:] == reports[:1] * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-", "pipe"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_takes_what_check_takes(name, kind, capsys, monkeypatch, tmp_path):
    suffix, text, settings = KINDS[kind]
    with fed(name, text, suffix, monkeypatch, tmp_path) as path:
        out = call(capsys, "train", path, "--dry-run", *settings)
    assert f"Data    {path}   " in out
    assert "measured on" in out


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_a_stream_can_be_evaluated_and_resumed(kind, capsys, monkeypatch, tmp_path):
    suffix, text, settings = KINDS[kind]
    folder = tmp_path / "model"
    with monkeypatch.context() as patch, fed("pipe", text, suffix, monkeypatch, tmp_path) as path:
        patch.setattr(session.Trainer, "run", stop)
        assert main(["train", path, "-o", str(folder), *settings]) == 130
    assert (folder / f"data{suffix}").read_text(encoding="utf-8") == text
    capsys.readouterr()
    assert "Done" in call(capsys, "train", "-o", folder, "--resume")
    reports = []
    for name in NAMES:
        with fed(name, text, suffix, monkeypatch, tmp_path) as path:
            words = ("evaluate", folder, path, "--allow-overlap", "--json")
            reports.append(json.loads(call(capsys, *words)))
        for changing in ("path", "latency_p50", "latency_p95", "seconds"):
            reports[-1].pop(changing, None)
        for row in reports[-1]["worst"]:
            row["where"] = row.pop("where", "").removeprefix(path)
    assert reports[1:] == reports[:1] * 3


@pytest.mark.slow
def test_all_parts_of_the_data_may_be_streams(capsys, monkeypatch, tmp_path):
    sources, targets = zip(*toy_pairs(60), strict=True)
    folder = tmp_path / "model"
    with (
        fed("pipe", "\n".join(sources), ".txt", monkeypatch, tmp_path) as source,
        fed("pipe", "\n".join(targets), ".txt", monkeypatch, tmp_path) as target,
        fed("pipe", "a cat\teine Katze\n", ".tsv", monkeypatch, tmp_path) as valid,
        monkeypatch.context() as patch,
    ):
        patch.setattr(session.Trainer, "run", stop)
        words = ("--targets", target, "--valid", valid, "-o", str(folder), *SETTINGS)
        assert main(["train", source, *words]) == 130
    assert (folder / "targets.txt").read_text(encoding="utf-8") == "\n".join(targets)
    capsys.readouterr()
    assert "Done" in call(capsys, "train", "-o", folder, "--resume")


@pytest.mark.parametrize(
    ("own", "result"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_sleep_soon_unless_the_user_decides(own, result, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(own))
    monkeypatch.delitem(sys.modules, "torch")
    assert main(["--help"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == result
