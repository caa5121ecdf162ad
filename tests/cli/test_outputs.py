"""Outputs of commands: written whole or not at all, and never over the files of a model."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.cli.commands import run

import regard
from regard.cli.outputs import escape, replacing, replacing_folder
from regard.errors import ResourceError
from regard.hub.file_names import README_MARK


def test_a_file_may_be_replaced_by_its_own_translation(capsys, trained, tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("3 red cat\n\n4 old dog\n")
    code, _, err = run(capsys, "translate", trained, path, "-o", path, "--beam", 1)
    assert code == 0
    assert err == f"{path}: 3 lines written\n"
    first, third = regard.load(trained).translate(["3 red cat", "4 old dog"], beam=1)
    assert path.read_text() == f"{first}\n\n{third}\n"


@pytest.mark.parametrize("name", ["config.toml", "model.safetensors", "manifest.json"])
def test_no_output_replaces_a_file_of_a_model(capsys, trained, name):
    before = (trained / name).read_bytes()
    code, _, err = run(capsys, "translate", trained, "3 red cat", "-o", trained / name)
    assert (code, (trained / name).read_bytes()) == (2, before)
    assert f"{name}: a file of a model, which needs it.  Name another file." in err


def test_a_failed_translation_leaves_the_output_that_was_there(capsys, trained, tmp_path):
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(b"3 red cat\n\xff\xfe\xfd\n")
    output.write_text("before")
    assert run(capsys, "translate", trained, source, "-o", output)[0] == 3
    assert output.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.txt"]


def test_a_full_device_is_named():
    message = "/dev/full: cannot be written"
    with pytest.raises(ResourceError, match=message), replacing("/dev/full") as stream:
        stream.write("text")


def test_labels_are_escaped_in_text():
    assert escape("very\tgood\n") == "very\\tgood\\n"


def test_what_killed_writers_left_is_swept_by_the_next(capsys, trained, tmp_path):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    leftover = tmp_path / f".out.txt.{finished.pid}.tmp"
    leftover.mkdir()
    (leftover / "out.txt").write_text("half")
    running = tmp_path / f".out.txt.{os.getppid()}.tmp"
    running.mkdir()
    notes = tmp_path / f".notes.{finished.pid}.tmp"
    notes.write_text("a file of the user's")
    code, _, _ = run(capsys, "translate", trained, "A cat", "-o", tmp_path / "out.txt")
    assert code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"out.txt", running.name, notes.name}


def test_an_export_replaces_its_files_and_keeps_others(tmp_path):
    folder = tmp_path / "hf"
    folder.mkdir()
    for name in ("config.json", "model-00001-of-00002.safetensors", "notes.txt"):
        (folder / name).write_text("before")
    with replacing_folder(str(folder)) as temporary:
        (temporary / "config.json").write_text("after")
        (temporary / "model.safetensors").write_text("after")
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    assert texts == {"config.json": "after", "model.safetensors": "after", "notes.txt": "before"}


@pytest.mark.parametrize("first_line", [README_MARK, "# Mine"])
def test_a_model_of_another_format_leaves_with_its_own_readme(first_line, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{first_line}\n")
    for name in ("config.json", "model.bin", "shared_vocabulary.json"):
        (tmp_path / name).write_text("before")
    with replacing_folder(str(tmp_path)) as temporary:
        (temporary / "config.json").write_text("after")
    left = ["README.md"] * (first_line == "# Mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == [*left, "config.json"]
