"""Folders of other libraries, caches and names of the hub are named for what they are."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.hub.hugging_face.test_architectures import change_config, publish

import regard
from regard.errors import ConfigError, RegardError, WeightsError
from regard.hub.hugging_face.published_folder import read_hugging_face


def message(path: Path | str, kind: type[RegardError] = WeightsError) -> str:
    with pytest.raises(kind) as caught:
        regard.load(path)
    return str(caught.value)


@pytest.fixture(scope="module")
def published(transformers, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    return publish(transformers, "Bert", "ForSequenceClassification", folder)


@pytest.fixture(params=["bert"])
def bert(published, tmp_path, request) -> Path:
    """A classifier of random weights."""
    return shutil.copytree(published, tmp_path / request.param)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("num_files", [1, 2])
@pytest.mark.parametrize("bert", ["bert", "it's $HOME"], indirect=True)
def test_a_pickle_is_converted_with_its_head_by_the_command_that_is_named(bert, num_files, named):
    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    names = sorted(tensors)
    for number in range(num_files):
        part = {name: tensors[name] for name in names[number::num_files]}
        torch.save(part, bert / f"pytorch_model-{number}.bin")
    torch.save({"lr": 1}, bert / "training_args.bin")
    if not named:
        change_config(bert, architectures=None)
    command = shlex.split(message(bert).splitlines()[1])
    assert command[:2] == ["python", "-c"]
    exec(command[2], {})
    assert read_hugging_face(bert).labels == ("LABEL_0", "LABEL_1")
    again = load_file(bert / "model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("tf_model.h5", "for TensorFlow only"),
        ("flax_model.msgpack", "for JAX only"),
        ("model.onnx", "for ONNX only"),
        ("q4.gguf", r"llama.cpp \(GGUF\)"),
    ],
)
@pytest.mark.parametrize("has_config", [True, False])
def test_weights_for_another_library_are_named_for_it(name, library, has_config, bert):
    (bert / "model.safetensors").rename(bert / name)
    if not has_config:
        (bert / "config.json").unlink()
    text = message(bert)
    assert re.search(library, text)
    assert name in text
    assert text.endswith("Take the original folder, with config.json and .safetensors.")


@pytest.mark.parametrize(
    ("files", "program"),
    [
        (("dict.en.txt", "model.pt"), "fairseq"),
        (("model_step_1000.pt",), "OpenNMT"),
        (("model.npz",), "Marian"),
        (("config.cfg", "meta.json"), "spaCy"),
        (("model.bin",), "fastText"),
    ],
)
def test_a_model_of_another_program_is_named_for_it(files, program, tmp_path):
    for name in files:
        (tmp_path / name).write_bytes(b"\xba\x16\x4f\x2f and so on")
    assert message(tmp_path) == (
        f"{tmp_path}: a model of {program} ({', '.join(files)}), which is not read here.  Take a "
        "folder of transformers, with config.json and .safetensors, or train one of your own."
    )


def test_a_pickle_without_a_configuration_is_named(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"PK")
    assert message(tmp_path) == (
        f"{tmp_path}: has weights.pth, a pickle, and no config.json, which says what the model is."
        "  Take the original folder, with config.json and .safetensors."
    )


def test_a_folder_for_ctranslate2_is_named_for_it(tmp_path):
    for name in ("model.bin", "shared_vocabulary.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "config.json").write_text('{"exported_by": "regard"}')
    assert message(tmp_path) == (
        f"{tmp_path}: a model for CTranslate2, which is not opened here; its README says how texts "
        "are written.  Name the folder that it was made from."
    )


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("encoder_model.onnx", "onnxruntime"),
        ("model.onnx", "onnxruntime"),
        ("model.pt2", "PyTorch"),
    ],
)
@pytest.mark.parametrize("model_type", ["bert", "transformer"])
def test_a_folder_of_graphs_that_was_exported_is_named(name, library, model_type, tmp_path):
    (tmp_path / name).write_text("")
    fields = {"exported_by": "regard", "model_type": model_type}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert message(tmp_path) == (
        f"{tmp_path}: a model for {library} ({name}), which is not opened here; its README says "
        "how it is run.  Name the folder that it was made from."
    )


@pytest.mark.parametrize("has_config", [True, False])
def test_checkpoints_with_a_pickled_index_are_refused_by_its_name(has_config, bert):
    (bert / "model.safetensors").rename(bert / "__0_0.distcp")
    if not has_config:
        (bert / "config.json").unlink()
    text = message(bert)
    assert "torch.distributed.checkpoint (__0_0.distcp), whose index .metadata is a pickle" in text


def test_adapters_are_named_with_their_base_and_how_to_merge_them(bert):
    (bert / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    text = message(bert, ConfigError)
    assert text.startswith(f"{bert}: adapters of peft over org/base, which are not applied here.")
    assert ".merge_and_unload()" in text
    assert f"copy the vocabulary, such as tokenizer.json, into {bert}-merged" in text
    (bert / "config.json").unlink()
    assert message(bert) == text


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", None])
def test_quantized_weights_are_named_with_their_method(method, bert):
    change_config(bert, quantization_config={"bits": 4, "quant_method": method})
    by = f" by {method}" if method else ""
    assert f"config.json: quantization_config: weights quantized{by}, which" in message(
        bert, ConfigError
    )


def test_a_cache_of_the_hub_names_the_folder_in_it(bert, tmp_path):
    cache = tmp_path / "hub" / "models--org--name"
    (cache / "refs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    assert message(cache) == f"{cache}: a cache of the Hugging Face hub.  It has no snapshot yet."
    for name in ("0ld", "abc"):
        (cache / "snapshots" / name).mkdir()
    (cache / "refs" / "main").write_text("0ld\n")
    assert message(cache).endswith(f"Name the folder in it: {cache}/snapshots/0ld")
    assert message(cache.parent) == (
        f"{cache.parent}: a cache of the Hugging Face hub, with models--org--name.  Name a folder "
        f"in its snapshots, such as {cache}/snapshots/0ld"
    )


@pytest.mark.parametrize(
    "name", ["google-bert/bert-base-uncased", "gpt2", "bert-base-cased", "org/any.thing"]
)
def test_a_name_of_the_hub_says_that_nothing_is_downloaded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message(name) == (
        f"{name}: no such folder.  A name of the Hugging Face hub?  Nothing is downloaded here.  "
        f"Get the folder, then name it: hf download {name} --local-dir {name.split('/')[-1]}"
    )


@pytest.mark.parametrize("name", ["ende", "models/ende", "/a/b"])
def test_another_missing_folder_is_just_missing(name, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    assert message(name).endswith("no such folder.")


@pytest.mark.parametrize("name", ["model.safetensors", "a.gguf"])
def test_a_file_of_weights_is_named_for_what_it_is(name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    expected = "a file of weights.  Name its folder" if "model" in name else "weights of llama.cpp"
    assert expected in message(tmp_path / name)


def test_a_configuration_without_a_model_type_is_named(bert):
    fields = json.loads((bert / "config.json").read_text())
    del fields["model_type"]
    (bert / "config.json").write_text(json.dumps(fields))
    assert message(bert).startswith(f"{bert}/config.json: has no model_type, which says what")


def test_more_than_ten_tensors_are_counted(transformers, tmp_path):
    publish(transformers, "Bert", "Model", tmp_path, num_hidden_layers=2)
    change_config(tmp_path, num_hidden_layers=3)
    text = message(tmp_path)
    assert "and 6 more are missing (39 of 55 found)" in text
    assert text.count("encoder.layer.2.") == 10
    change_config(tmp_path, num_hidden_layers=1)
    text = message(tmp_path)
    assert text.count("does not belong to this model.") == 10
    assert text.endswith("And 6 more.")
