"""Words, numbers, names and pipes at the command line: what cannot be used is refused by name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import TINY

import regard
from regard.__main__ import main
from regard.cli.outputs import escape, replacing, replacing_folder
from regard.errors import ConfigError, ResourceError
from regard.runs import export_check, start_checks
from regard.runs.run import train
from regard.training.events import Evaluated


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_text_that_begins_with_a_dash_goes_behind_two(capsys, trained):
    assert run(capsys, "translate", trained, "-x")[0] == 2
    code, out, _ = run(capsys, "translate", trained, "--beam", 1, "--", "--json")
    assert (code, out.count("\n")) == (0, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "-1"), "training.seed=-1: seed must be 0 or more, not -1"),
        (("--seed", "1" + 40 * "0"), f"seed must be {10**12:,} or less"),
        (("--set", "model.dim=1000000000"), "dim must be 16,777,216 or less"),
        (("--set", "model.num_encoder_layers=1000000"), "num_encoder_layers must be 1,000 or less"),
        (("--set", "tokenizer.vocab_size=1000000000"), "vocab_size must be 1,000,000 or less"),
        (("--minutes", "1e400"), "minutes must be finite, not inf"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_number_out_of_range_is_refused_before_anything_is_written(
    capsys, tmp_path, pairs_file, words, message
):
    code, _, err = run(capsys, "train", pairs_file, "-o", tmp_path / "m", *words)
    assert code == 2
    assert message in err
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
@pytest.mark.parametrize("option", [(), ("--dry-run",)])
def test_a_disk_without_room_for_the_run_is_refused_before_it_begins(
    capsys, tmp_path, pairs_file, monkeypatch, option
):
    monkeypatch.setattr(start_checks, "free_bytes", lambda _: 1_500_000)
    sizes = [word for setting in (*TINY, "model.dim=256") for word in ("--set", setting)]
    code, out, err = run(capsys, "train", pairs_file, "-o", tmp_path / "m", *sizes, *option)
    assert code == 5
    (needed,) = re.findall(r"([\d.]+) MB disk", out)
    assert err == (
        f"regard: {tmp_path / 'm'}: the disk has 1 MB free, and the run needs about "
        f"{needed} MB.  Make room there, or choose another -o.\n"
    )
    assert not (tmp_path / "m" / "config.toml").exists()


def test_a_model_that_exceeds_the_memory_is_not_built(capsys, tmp_path, pairs_file):
    sizes = ("--set", "model.dim=16000000", "--set", "model.hidden_dim=16000000")
    code, _, err = run(capsys, "train", pairs_file, "-o", tmp_path / "m", *sizes)
    assert code == 5
    assert "for the weights and their gradients" in err


@pytest.mark.parametrize("option", ["-o", "--config", "--from", "--valid"])
def test_an_empty_name_is_refused(capsys, pairs_file, option):
    code, _, err = run(capsys, "train", pairs_file, option, "")
    assert code == 2
    assert "An empty name." in err


@pytest.mark.parametrize(
    ("word", "cause"),
    [("caf\udce9", "not UTF-8 at byte 4 (0xE9)."), ("a\ud800", "half of a character (U+D800)")],
)
def test_broken_text_on_the_command_line_is_named(capsys, trained, word, cause):
    code, _, err = run(capsys, "translate", trained, word)
    assert code == 2
    assert cause in err


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


def test_a_word_like_a_missing_file_is_translated_with_a_note(capsys, trained):
    code, out, err = run(capsys, "translate", trained, "missing.txt", "--beam", 1)
    assert (code, out.count("\n")) == (0, 1)
    assert err == "regard: note: missing.txt: no such file, so it is a text.\n"


def test_the_source_field_of_records_is_translated(capsys, trained, tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"id": i, "source": f"{i} red cat", "target": "x"} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = run(capsys, "translate", trained, path, "--beam", 1, "--json")
    assert code == 0
    texts = [json.loads(line)["text"] for line in out.splitlines()]
    assert texts == ["0 red cat", "1 red cat", "2 red cat"]


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u00a0", "\u3000"])
def test_blank_text_has_a_blank_translation(capsys, trained, blank):
    assert run(capsys, "translate", trained, blank)[:2] == (0, "\n")


def test_labels_are_escaped_in_text():
    assert escape("very\tgood\n") == "very\\tgood\\n"


def test_a_device_is_no_data(capsys, trained):
    for words in (("check", "/dev/zero"), ("translate", trained, "/dev/zero")):
        code, _, err = run(capsys, *words)
        assert (code, err) == (3, "regard: /dev/zero: a device, not a file.  Name a file.\n")


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("answer", "M", "q", "extra"),
            '"extra" is not expected.  Put a text of several words in quotes.  '
            "Usage: regard answer MODEL [QUESTION] [OPTIONS]  See: regard answer --help",
        ),
        (
            ("train", "a", "b", "-"),
            '"b", "-" are not expected.  Usage: regard train [DATA] [OPTIONS]  '
            "See: regard train --help",
        ),
    ],
)
def test_a_surplus_word_is_named_with_the_usage(capsys, words, message):
    assert run(capsys, *words)[::2] == (2, f"regard: {message}\n")


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


def test_a_full_standard_output_gives_a_sentence(capsys, trained, monkeypatch):
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main(["info", str(trained)]) == 5
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_whose_report_is_closed_saves_first(tmp_path, pairs_file):
    def fail(event):
        if isinstance(event, Evaluated):
            raise BrokenPipeError(32, "Broken pipe")

    folder = tmp_path / "m"
    with pytest.raises(ResourceError, match=r"cannot be written \(Broken pipe\)") as error:
        train(pairs_file, folder, settings=TINY, report=fail)
    assert error.value.next_steps[0].settings == (("output", str(folder)), ("resume", ""))
    assert (folder / "checkpoints" / "last.safetensors").exists()


def test_an_export_that_fails_leaves_what_was_there(capsys, trained, tmp_path, monkeypatch):
    def fail(opened, folder, to, texts_path):
        (folder / "config.json").write_text("half")
        raise ResourceError(f"{folder}/model.safetensors: the disk is full.")

    monkeypatch.setattr(export_check, "export_model", fail)
    output = tmp_path / "hf"
    output.mkdir()
    (output / "config.json").write_text("before")
    for folder, left in ((output, "before"), (tmp_path / "new", None)):
        code, _, err = run(capsys, "export", trained, "-o", folder)
        assert (code, err) == (5, f"regard: {folder}/model.safetensors: the disk is full.\n")
        assert left is None or (folder / "config.json").read_text() == left
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_an_export_over_another_one_says_that_it_replaces_it(
    capsys, trained, tmp_path, monkeypatch
):
    def write(opened, folder, to, texts_path):
        (folder / "config.json").write_text("new")
        return export_check.Exported(
            folder=str(folder), model_type="marian", difference=0.0, scale=1.0, peer_difference=None
        )

    monkeypatch.setattr(export_check, "export_model", write)
    output = tmp_path / "hf"
    code, out, err = run(capsys, "export", trained, "-o", output)
    assert (code, out.startswith(f"Written {output}   hf"), err) == (0, True, "")
    code, out, err = run(capsys, "export", trained, "-o", output, "--json")
    assert (code, json.loads(out)["model_type"]) == (0, "marian")
    assert f"{output}: the model that was there is replaced." in err


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


def test_a_run_in_python_needs_the_name_of_its_folder(pairs_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (lambda: regard.train(pairs_file, ""), lambda: regard.resume("")):
        with pytest.raises(ConfigError, match="`output`: an empty name"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("blank", ["", "\u3000"])
def test_blank_text_aligns_nothing(capsys, trained, blank):
    code, out, _ = run(capsys, "translate", trained, blank, "--align", "--json")
    assert code == 0
    assert json.loads(out)["outputs"][0]["alignment"] == []
    assert run(capsys, "translate", trained, blank, "--align")[:2] == (0, "\t\n")


def test_a_number_with_a_minus_is_text(capsys, trained):
    for words in (("-5",), ("--", "-5")):
        code, out, _ = run(capsys, "translate", trained, "--beam", 1, "--json", *words)
        assert code == 0
        assert json.loads(out)["text"] == "-5"


def test_no_export_goes_into_a_model_of_regard(capsys, trained, tmp_path):
    code, _, err = run(capsys, "export", trained, "-o", trained)
    assert code == 2
    assert "holds a model of regard.  Export to another folder." in err
