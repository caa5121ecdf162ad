"""The end of a command: memory that is not enough, a full disk, streams that are closed."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.cli.commands import run
from tests.conftest import TINY

from regard.__main__ import main
from regard.errors import describe_lack_of_memory
from regard.runs import session
from regard.tasks import opening
from regard.training.checkpoint import checkpoint_path

CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB"
SETTINGS = [word for setting in TINY for word in ("--set", setting)]


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "out of memory."),
        (RuntimeError(CPU), "out of memory (4,000 MB more were needed)."),
        (torch.OutOfMemoryError(CUDA), "out of memory (2.00 GiB more were needed)."),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory."),
        (ImportError("libtorch.so: failed to map segment from shared object"), "out of memory."),
        (RuntimeError("can't start new thread"), "out of memory."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_verb_ends_with_a_sentence(capsys, monkeypatch, error, cause):
    monkeypatch.setattr(opening, "open_model", raising(error))
    assert main(["translate", "model", "text"]) == 5
    err = capsys.readouterr().err
    assert err == f"regard: {cause}  Less fits: " + err.partition("Less fits: ")[2]
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(errno.EIO, "failed")])
def test_another_error_is_not_taken_for_it(error):
    assert describe_lack_of_memory(error) is None


@pytest.mark.parametrize("step", ["from_request", "measure"])
def test_a_run_names_the_settings_that_take_less(capsys, monkeypatch, tmp_path, pairs_file, step):
    owner = session.RunSession if step == "from_request" else session
    monkeypatch.setattr(owner, step, raising(RuntimeError(CPU)))
    assert main(["train", str(pairs_file), "-o", str(tmp_path / "m"), *SETTINGS]) == 5
    err = capsys.readouterr().err
    if step == "measure":  # the preset is tiny, the pattern saves nothing at this length
        size = r"\(\d(\.\d)? GB\)"
        assert re.search(rf"Less fits: --set training\.batch_tokens=\d+ {size}\.$", err), err
    else:
        assert err.endswith("  Less fits: a part of the data.\n")
    assert not (tmp_path / "m").exists()


@pytest.mark.filterwarnings("ignore:.*has no manifest.json")
def test_a_run_that_starts_again_without_its_checkpoint_names_what_takes_less(
    capsys, monkeypatch, tmp_path, trained
):
    folder = shutil.copytree(trained, tmp_path / "m")
    for path in (folder / "metrics.jsonl", folder / "manifest.json", checkpoint_path(folder)):
        path.unlink()
    monkeypatch.setattr(session.RunSession, "from_request", raising(RuntimeError(CPU)))
    assert main(["train", "-o", str(folder), "--resume"]) == 5
    assert capsys.readouterr().err == (
        "regard: out of memory (4,000 MB more were needed).  Less fits: a part of the data.\n"
    )


@pytest.mark.slow
def test_a_prediction_of_a_deterministic_run_takes_one_thread(monkeypatch, pairs_file):
    numbers = []

    def count(*_, **__):
        numbers.append(torch.get_num_threads())
        raise RuntimeError(CPU)

    monkeypatch.setattr(session, "measure", count)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for is_deterministic in ("true", "false"):
            word = f"training.deterministic={is_deterministic}"
            assert main(["train", str(pairs_file), "--dry-run", *SETTINGS, "--set", word]) == 5
    finally:
        torch.set_num_threads(before)
    assert numbers == [1, 2]


@pytest.mark.slow
def test_a_limit_of_the_shell_gives_the_sentence(trained):
    limit = 400_000_000
    ended = subprocess.run(
        [sys.executable, "-m", "regard", "translate", str(trained), "3 red cat"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 5
    assert ended.stderr.startswith("regard: out of memory")
    assert "Traceback" not in ended.stderr


def test_closed_standard_streams_give_a_sentence(capsys, trained, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in run(capsys, "translate", trained, "-")[2]
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["info", str(trained)]) == 5
    assert "standard output cannot be written" in capsys.readouterr().err


def test_a_reader_that_leaves_ends_a_verb_without_a_word(capsys, trained, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        assert main(["info", str(trained)]) == 141
    assert capsys.readouterr().err == ""


def test_a_full_standard_output_gives_a_sentence(capsys, trained, monkeypatch):
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main(["info", str(trained)]) == 5
    assert "No space left on device" in capsys.readouterr().err
