"""``regard export``: what it writes, replaces and leaves as it was."""

from __future__ import annotations

import json

import pytest
from tests.cli.commands import run

from regard.errors import ResourceError
from regard.hub.file_names import EXPORTER, README_MARK
from regard.runs import export_check
from regard.runs.text_check import TextCheck


def test_an_export_that_fails_leaves_what_was_there(capsys, trained, tmp_path, monkeypatch):
    def fail(opened, folder, to, texts_path):
        (folder / "config.json").write_text("half")
        raise ResourceError(f"{folder}/model.safetensors: the disk is full.")

    monkeypatch.setattr(export_check, "export_model", fail)
    output = tmp_path / "hf"
    output.mkdir()
    before = json.dumps({"model_type": "marian", **EXPORTER})
    (output / "config.json").write_text(before)
    for folder, left in ((output, before), (tmp_path / "new", None)):
        code, _, err = run(capsys, "export", trained, "-o", folder)
        assert (code, err) == (5, f"regard: {folder}/model.safetensors: the disk is full.\n")
        assert left is None or (folder / "config.json").read_text() == left
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def writes_nothing_but(check: TextCheck):
    """Return an export of one file, whose texts were checked before."""

    def write(opened, folder, to, texts_path):
        (folder / "config.json").write_text(json.dumps(EXPORTER))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text("{}")
        return export_check.Exported(
            folder=str(folder),
            model_type="marian",
            difference=0.0,
            scale=1.0,
            peer_difference=None,
            texts=check,
        )

    return write


def test_an_export_over_another_one_says_that_it_replaces_it(
    capsys, trained, tmp_path, monkeypatch
):
    check = TextCheck(source="texts", peer="peer", num_texts=1, num_equal=1)
    monkeypatch.setattr(export_check, "export_model", writes_nothing_but(check))
    output = tmp_path / "hf"
    code, out, err = run(capsys, "export", trained, "-o", output)
    assert (code, out.startswith(f"Written {output}   hf"), err) == (0, True, "")
    assert "\nEqual   1 text (texts) in peer: " in out
    (output / "README.md").write_text("mine")
    (output / "modules.json").write_text("of the model before")
    code, out, err = run(capsys, "export", trained, "-o", output, "--json")
    assert (code, json.loads(out)["model_type"]) == (0, "marian")
    assert err == f"{output}: the model that was there is replaced.  As it was: README.md.\n"
    assert sorted(path.name for path in output.iterdir()) == [
        "1_Pooling",
        "README.md",
        "config.json",
    ]


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_no_export_goes_among_files_of_another_origin(name, capsys, trained, tmp_path):
    (tmp_path / name).write_text('{"name": "app"}')
    code, _, err = run(capsys, "export", trained, "-o", tmp_path)
    assert (code, err) == (
        2,
        f"regard: {tmp_path}: holds {name}, and no earlier export; nothing was changed.  Export "
        "to a new folder.\n",
    )
    assert (tmp_path / name).read_text() == '{"name": "app"}'


def test_a_check_of_greedy_outputs_says_so(capsys, trained, tmp_path, monkeypatch):
    check = TextCheck(
        source="texts",
        peer="peer",
        num_texts=60,
        num_equal=60,
        beam=4,
        search_difference="ranks outputs by another function of their length",
        num_equal_beams=38,
    )
    monkeypatch.setattr(export_check, "export_model", writes_nothing_but(check))
    _, out, _ = run(capsys, "export", trained, "-o", tmp_path / "hf")
    assert out.splitlines()[2:] == [
        "Equal   60 texts (texts) in peer: the same tokens and greedy outputs, numbers within "
        "0.0e+00",
        "Search  beam 4: peer ranks outputs by another function of their length, and 38 of 60 "
        "texts have the same output there; num_beams=1 gives the greedy ones",
    ]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_export_with_other_outputs_is_written_and_ends_with_the_code_of_a_model(
    options, capsys, trained, tmp_path, monkeypatch
):
    check = TextCheck(source="texts", peer="peer", num_texts=60, num_equal=58, first="a text")
    monkeypatch.setattr(export_check, "export_model", writes_nothing_but(check))
    code, out, err = run(capsys, "export", trained, "-o", tmp_path / "hf", *options)
    assert (code, err) == (
        4,
        f"regard: {tmp_path}/hf: written, but 2 of 60 outputs differ in peer.  Look at the first "
        "of them before you use the folder.\n",
    )
    assert ('"num_equal":58' if options else "\nDiffers 2 of 60 texts (texts) in peer.") in out
    assert (tmp_path / "hf" / "config.json").is_file()


def test_a_limit_that_only_regard_has_is_named_where_it_ends_outputs(
    capsys, trained, tmp_path, monkeypatch
):
    check = TextCheck(source="texts", peer="peer", num_texts=60, num_equal=60, num_limited=2)
    monkeypatch.setattr(export_check, "export_model", writes_nothing_but(check))
    _, out, _ = run(capsys, "export", trained, "-o", tmp_path / "hf")
    assert out.splitlines()[2:] == [
        "Equal   60 texts (texts) in peer: the same tokens and outputs, numbers within 0.0e+00",
        "Limit   outputs of 2 of 60 texts end sooner here, by the length of the source: peer has "
        "no such limit, but max_new_tokens for each text",
    ]


def test_no_export_goes_into_a_model_of_regard(capsys, trained, tmp_path):
    code, _, err = run(capsys, "export", trained, "-o", trained)
    assert code == 2
    assert "holds a model of regard.  Export to another folder." in err


def test_no_export_replaces_a_model_that_transformers_wrote(capsys, trained, tmp_path):
    content = '{"model_type": "bert", "transformers_version": "5.0.0"}'
    (tmp_path / "config.json").write_text(content)
    code, _, err = run(capsys, "export", trained, "-o", tmp_path)
    assert (code, err) == (
        2,
        f"regard: {tmp_path}: holds a model that transformers wrote.  Export to another folder.\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == content


def test_an_export_replaces_its_own_readme_alone(capsys, trained, tmp_path, monkeypatch):
    def write(opened, folder, to, texts_path):
        (folder / "README.md").write_text(f"{README_MARK}\nnew\n")
        (folder / "config.json").write_text(json.dumps(EXPORTER))
        return export_check.Exported(
            folder=str(folder), model_type="a", difference=None, scale=1.0, peer_difference=None
        )

    monkeypatch.setattr(export_check, "export_model", write)
    command = ("export", trained, "-o", tmp_path, "--to", "ctranslate2")
    (tmp_path / "config.json").write_text(json.dumps(EXPORTER))
    readme = tmp_path / "README.md"
    readme.write_text("mine")
    code, _, err = run(capsys, *command)
    assert (code, readme.read_text()) == (2, "mine")
    assert err == (
        f"regard: {readme}: no export wrote it, and this one would replace it; nothing was changed."
        "  Export to a new folder.\n"
    )
    readme.write_text(f"{README_MARK}\nold\n")
    code, out, _ = run(capsys, *command)
    assert (code, readme.read_text()) == (0, f"{README_MARK}\nnew\n")
    assert out.splitlines()[0] == f"Written {tmp_path}   ctranslate2, model_type a"
