"""``regard translate``: text, files and standard input, and what comes out."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tests.cli.commands import feed, run

import regard
from regard.tasks import opening
from regard.tasks.sequence_to_sequence import decode_rows


def test_translate_takes_text(capsys, trained):
    code, out, _ = run(capsys, "translate", trained, "3 red cat sees the dog")
    assert code == 0
    assert out.count("\n") == 1


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_translate_takes_a_precision_and_threads(capsys, trained, precision):
    words = ("3 red cat sees the dog", "--precision", precision, "--threads", 1)
    code, out, err = run(capsys, "translate", trained, *words)
    if precision == "int8" and "was not compiled" in err:
        pytest.skip("the decoder was not compiled")
    assert code == 0
    assert out.count("\n") == 1


def test_a_model_is_opened_on_one_thread_and_writes_on_all_that_were_set(
    capsys, trained, monkeypatch
):
    numbers = []

    def noting(function):
        def run_and_note(*args, **kwargs):
            numbers.append(torch.get_num_threads())
            return function(*args, **kwargs)

        return run_and_note

    monkeypatch.setattr(opening, "task_of", noting(opening.task_of))
    monkeypatch.setattr(decode_rows, "decode_sources", noting(decode_rows.decode_sources))
    before = torch.get_num_threads()
    try:
        assert run(capsys, "translate", trained, "3 red cat sees the dog", "--threads", 2)[0] == 0
    finally:
        torch.set_num_threads(before)
    assert numbers == [1, 2]


def test_wrong_threads_and_precisions_are_refused(capsys, trained):
    code, out, err = run(capsys, "translate", trained, "x", "--threads", 0)
    assert (code, out) == (2, "")
    assert "--threads must be 1 to 1,024, not 0" in err
    code, out, err = run(capsys, "translate", trained, "x", "--precision", "int4")
    assert (code, out) == (2, "")
    assert "int4" in err


def test_translate_takes_standard_input_line_by_line(capsys, monkeypatch, trained):
    feed(monkeypatch, "3 red cat sees the dog\n\n5 old dog likes the tree\n")
    code, out, _ = run(capsys, "translate", trained, "-")
    assert code == 0
    lines = out.split("\n")
    assert len(lines) == 4
    assert lines[1] == ""


def test_translate_takes_a_file_and_writes_one(capsys, trained, tmp_path):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("3 red cat sees the dog\r\n4 old dog likes the tree", encoding="utf-8")
    code, out, _ = run(capsys, "translate", trained, source, "-o", target, "--beam", 1)
    assert (code, out) == (0, "")
    assert len(target.read_text(encoding="utf-8").splitlines()) == 2


def test_the_name_of_a_file_can_be_taken_as_text(capsys, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat").write_text("one\ntwo\n")
    assert run(capsys, "translate", trained, "cat")[1].count("\n") == 2
    assert run(capsys, "translate", trained, "cat", "--text")[1].count("\n") == 1


def test_several_best_come_numbered_with_scores(capsys, trained):
    code, out, _ = run(capsys, "translate", trained, "3 red cat", "--nbest", 2, "--beam", 3)
    assert code == 0
    fields = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in fields] == ["1", "1"]
    assert float(fields[0][1]) >= float(fields[1][1])


def test_an_empty_line_has_one_translation_however_many_are_asked_for(capsys, trained, monkeypatch):
    feed(monkeypatch, "3 red cat\n\n")
    code, out, _ = run(capsys, "translate", trained, "-", "--nbest", 3, "--beam", 3)
    assert code == 0
    numbers = [line.partition("\t")[0] for line in out.splitlines()]
    assert (numbers.count("2"), out.splitlines()[-1]) == (1, "2\t0.0000\t")


def test_the_length_of_a_translation_has_limits(capsys, trained):
    options = ("--max-length", 2, "--json")
    code, out, _ = run(capsys, "translate", trained, "3 red cat sees the dog", *options)
    assert code == 0
    short = json.loads(out)["outputs"][0]
    options = ("--min-length", 6, "--max-length", 6, "--json")
    _, out, _ = run(capsys, "translate", trained, "3 red cat sees the dog", *options)
    long = json.loads(out)["outputs"][0]
    tokenizer = regard.load(trained).tokenizer
    lengths = [len(tokenizer.encode_targets([o["text"]])[0]) for o in (short, long)]
    assert lengths[0] <= 2 < lengths[1] <= 6
    code, _, err = run(capsys, "translate", trained, "x", "--min-length", 3, "--max-length", 2)
    assert (code, "--min-length must be --max-length (2) or less, not 3" in err) == (2, True)


def test_a_device_that_is_no_name_is_quoted(capsys, trained):
    code, _, err = run(capsys, "translate", trained, "x", "--device", "")
    assert code == 2
    assert err == 'regard: device must be auto, cpu, cuda or cuda:N, not "".\n'


def test_alignment_follows_the_translation(capsys, trained):
    code, out, _ = run(capsys, "translate", trained, "3 red cat", "--align")
    assert code == 0
    text, pairs = out.rstrip("\n").split("\t")
    assert len(pairs.split()) == len(text.split())


def test_translate_json_has_scores_and_alignment(capsys, trained):
    code, out, _ = run(capsys, "translate", trained, "3 red cat", "--json", "--align")
    assert code == 0
    found = json.loads(out)
    assert found["line"] == 1
    assert found["source"] == "3 red cat"
    assert {"text", "score", "confidence", "alignment"} <= set(found["outputs"][0])


def test_damaged_weights_are_noticed_by_their_checksum(capsys, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-50] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(content))
    code, _, err = run(capsys, "translate", folder, "x")
    assert code == 4
    assert "damaged: the checksum does not agree" in err


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u00a0", "\u3000"])
def test_blank_text_has_a_blank_translation(capsys, trained, blank):
    assert run(capsys, "translate", trained, blank)[:2] == (0, "\n")


@pytest.mark.parametrize("blank", ["", "\u3000"])
def test_blank_text_aligns_nothing(capsys, trained, blank):
    code, out, _ = run(capsys, "translate", trained, blank, "--align", "--json")
    assert code == 0
    assert json.loads(out)["outputs"][0]["alignment"] == []
    assert run(capsys, "translate", trained, blank, "--align")[:2] == (0, "\t\n")
