"""Changed files of a model folder are noticed; a killed writer leaves a folder that agrees."""

from __future__ import annotations

import json
import random
import shutil

import pytest
import torch
from tests.conftest import TINY, toy_pairs, write_tsv

import regard
from regard.__main__ import main
from regard.errors import WeightsError
from regard.hub import model_folder as model_folder_module
from regard.hub.manifest import Manifest
from regard.hub.model_folder import ModelFolder
from regard.runs.run import resume, train


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of a trained model's folder."""
    return shutil.copytree(trained, tmp_path / "copy")


@pytest.mark.slow
def test_a_run_enters_every_file_that_it_is_opened_from(folder):
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(files) == {"config.toml", "tokenizer.json", "model.safetensors", "metrics.jsonl"}


@pytest.mark.parametrize("name", ["config.toml", "tokenizer.json", "metrics.jsonl"])
def test_a_flipped_bit_anywhere_in_a_small_file_is_noticed(folder, name):
    content, rng = (folder / name).read_bytes(), random.Random(0)
    for _ in range(40):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(damaged)
        with pytest.raises(WeightsError, match=f"{name}: changed or damaged"):
            regard.load(folder)


@pytest.mark.slow
def test_the_weights_of_another_run_are_noticed(folder, few_pairs_file, tmp_path):
    train(few_pairs_file, tmp_path / "other", settings=[*TINY, "training.seed=5"])
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(WeightsError, match=r"model\.safetensors: changed or damaged"):
        regard.load(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {"config.toml": 3}}'])
def test_a_damaged_manifest_is_noticed(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(WeightsError, match=r"manifest\.json: damaged"):
        regard.load(folder)


def test_a_change_by_hand_is_reported_and_can_be_accepted(folder, capsys):
    path = folder / "config.toml"
    path.write_text(path.read_text().replace("length_penalty = 1.0", "length_penalty = 0.5"))
    assert main(["info", str(folder)]) == 4
    error = capsys.readouterr().err
    assert "config.toml: changed or damaged since it was written" in error
    assert f"regard info {folder} --accept" in error
    assert main(["info", str(folder), "--accept"]) == 0
    assert "accepted: config.toml" in capsys.readouterr().err
    assert regard.load(folder).config.search.length_penalty == 0.5


def test_what_a_folder_is_not_opened_from_is_never_accepted(folder, capsys):
    """A page that was written into the folder may be written again."""
    page = folder / "why.html"
    page.write_text("first")
    (folder / "calibration.json").write_text("{}")
    assert main(["info", str(folder), "--accept"]) == 0
    assert "accepted: calibration.json\n" in capsys.readouterr().err
    page.write_text("second")
    assert regard.load(folder).translate("3 red cat")


def test_a_folder_without_a_manifest_opens_with_a_note(folder):
    (folder / "manifest.json").unlink()
    with pytest.warns(UserWarning, match=r"has no manifest\.json"):
        regard.load(folder)


def test_the_model_card_may_be_edited(folder):
    (folder / "README.md").write_text("my own words")
    assert regard.load(folder).translate("3 red cat")


def test_a_cut_last_line_of_metrics_is_left_out(folder):
    lines = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(lines + b'{"event": "eval')
    metrics = ModelFolder(folder).read_metrics()
    assert metrics == [json.loads(line) for line in lines.splitlines()]


def test_a_folder_agrees_after_writers_that_were_killed_one_after_another(tmp_path):
    folder, manifest = ModelFolder(tmp_path), Manifest(tmp_path)
    folder.write_weights({"weight": torch.zeros(2)})
    folder.write_calibration({"temperature": 1.5})
    for _ in range(3):  # each enters what it is about to write, and is killed
        manifest.record_checksum("model.safetensors", "of the next weights")
        manifest.record("calibration.json", b"{}")
    assert folder.read_weights()["weight"].tolist() == [0.0, 0.0]
    manifest.check()
    folder.write_weights({"weight": torch.ones(2)})
    assert folder.read_weights()["weight"].tolist() == [1.0, 1.0]


class KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(10))
def test_a_run_killed_between_a_manifest_and_its_file_opens_and_resumes(
    tmp_path, monkeypatch, moment
):
    """Every write of the folder is a moment to be killed in, before or after the manifest's."""
    few_pairs = write_tsv(tmp_path / "pairs.tsv", toy_pairs(80))
    writes = []

    def write(path, content):
        writes.append(path)
        if len(writes) == moment + 1:
            raise KilledError
        write_atomic(path, content)

    write_atomic = model_folder_module.write_atomic
    monkeypatch.setattr(model_folder_module, "write_atomic", write)
    monkeypatch.setattr("regard.hub.manifest.write_atomic", write)
    folder = tmp_path / "killed"
    with pytest.raises(KilledError):
        train(few_pairs, folder, settings=(*TINY, "training.epochs=1"))
    monkeypatch.undo()
    opens = "config.toml" in [path.name for path in writes[:-1]]
    assert (folder / "config.toml").exists() == opens
    if opens:
        resume(folder)
        assert isinstance(regard.load(folder).translate("3 red cat"), str)
