"""Folders that others made: sizes and depths are bounded before they cost anything."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from regard.errors import ConfigError, RegardError, WeightsError
from regard.hub import model_folder as folders
from regard.hub.storage import write_tensors
from regard.settings.values import parse_toml
from regard.tasks.opening import open_model

pytestmark = pytest.mark.filterwarnings("ignore:.* has no manifest.json")


@pytest.fixture
def folder(trained, tmp_path):
    """A trained folder without a manifest, as by hand."""
    return shutil.copytree(
        trained, tmp_path / "m", ignore=shutil.ignore_patterns("manifest.json", "checkpoints")
    )


def refusal(folder, kind: type[RegardError] = WeightsError) -> str:
    with pytest.raises(kind) as caught:
        open_model(folder)
    return str(caught.value)


def change(path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def set_header(path, entries: dict) -> None:
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


@pytest.mark.parametrize("setting", ["dim = 16", "hidden_dim = 32"])
def test_a_size_that_the_weights_lack_is_refused_before_the_model_is_built(folder, setting):
    name = setting.split(" ")[0]
    change(folder / "config.toml", f"\n{setting}\n", f"\n{name} = 1000000\n")
    assert "numbers are too few for the sizes that the configuration says" in refusal(folder)


def test_more_layers_than_tensors_are_refused_before_the_model_is_built(folder):
    change(folder / "config.toml", "num_encoder_layers = 1", "num_encoder_layers = 900")
    assert "42 tensors are too few for the 900 layers" in refusal(folder)


def test_settings_are_read_once(trained, monkeypatch):
    calls = []
    read = folders.ModelFolder.read_config
    monkeypatch.setattr(
        folders.ModelFolder, "read_config", lambda *a: (calls.append(a), read(*a))[1]
    )
    open_model(trained)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("task = " + "[" * 100_000, "too deep within each other"),
        (".".join(["a"] * 100_000) + " = 1", "more than twenty dots"),
        ("a = 1 # " + "x" * 600_000, "at most are read"),
        ('a = "' + '\\"' * 200_000, ""),
        ("a = " + "{a = " * 50_000, "too deep within each other"),
    ],
    ids=["arrays", "dots", "length", "quotes", "tables"],
)
def test_a_configuration_of_great_depth_or_length_is_refused(folder, text, reason):
    (folder / "config.toml").write_text(text)
    assert reason in refusal(folder, ConfigError)


def test_dots_within_text_are_no_depth():
    dots = ".".join("abcdefghijklmnopqrstuvwxyz")
    assert parse_toml(f"labels = [\"{dots}\", '{dots}']") == {"labels": [dots, dots]}


@pytest.mark.parametrize("name", ["tokenizer.json", "manifest.json"])
def test_json_of_great_depth_is_refused(folder, name):
    (folder / name).write_text("[" * 1_000_000)
    assert name in refusal(folder)


def test_metadata_of_great_depth_or_length_is_refused(folder):
    path = folder / "model.safetensors"
    set_header(path, {"__metadata__": {"regard": '{"sha256": "x", "state": ' + "[" * 500_000}})
    refusal(folder)
    set_header(path, {"__metadata__": {"x": "y" * 9_000_000}})
    assert "8,000,000 at most are read" in refusal(folder)


def test_a_vocabulary_that_pads_every_text_is_opened_without_padding(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["padding"] = {
        "strategy": {"Fixed": 10**9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    path.write_text(json.dumps(content))
    assert len(folders.ModelFolder(folder).read_tokenizer().encode(["red"])[0]) < 5


def test_weights_that_are_not_finite_are_named_once(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["output_weight"][0, :3] = torch.tensor([float("nan"), float("inf"), 1.0])
    write_tensors(path, tensors, {})
    with pytest.warns(UserWarning, match="2 of 5,616 numbers of tensor output_weight are not fin"):
        open_model(folder)


@pytest.mark.slow
def test_a_model_is_opened_without_the_symbols_of_sharded_training():
    script = (
        "import regard.tasks.opening, sys; "
        "loaded = {'sympy', 'torch.distributed.tensor', 'torch.distributed.fsdp'} & {*sys.modules};"
        "sys.exit(' '.join(loaded) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
