"""A folder with weights of 8 bits: written, used, and refused where it is of no use."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil

import pytest
import torch
from tests.conftest import TINY, toy_pairs

import regard
from regard.__main__ import main
from regard.errors import WeightsError
from regard.generation import native
from regard.hub.int8_weights import dequantize, quantize
from regard.hub.model_folder import ModelFolder, load_weights
from regard.runs.run import train
from regard.setup import base_task

WORDS = ["3 red cat sees the dog", "5 old dog likes the tree"]


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def quantized(trained, tmp_path_factory):
    translator = regard.load(trained)
    if (reason := native.why_through_operators(translator.model)) is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("int8") / "m8"
    assert main(["quantize", str(trained), "-o", str(folder)]) == 0
    return folder


def test_the_quality_on_validation_rows_is_printed(capsys, trained, quantized, tmp_path):
    code, out, _ = run(capsys, "quantize", trained, "-o", tmp_path / "again", "--json")
    assert code == 0
    fields = json.loads(out)
    assert fields["folder"] == str(tmp_path / "again")
    assert fields["bytes_after"] < fields["bytes_before"] / 2
    assert fields["quality"]["num_rows"] > 0
    assert 0 <= fields["quality"]["equal"] <= 100
    assert len(fields["quality"]["bleu"]) == len(fields["quality"]["chrf"]) == 2


@pytest.fixture(scope="module")
def summarizer(tmp_path_factory, quantized):
    folder = tmp_path_factory.mktemp("news")
    path = folder / "news.jsonl"
    rows = [{"document": source, "summary": target} for source, target in toy_pairs(60)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    train(path, folder / "m", settings=(*TINY, "training.epochs=1"))
    return folder / "m", path


def test_summaries_are_compared_by_rouge(capsys, tmp_path, summarizer):
    code, out, _ = run(capsys, "quantize", summarizer[0], "-o", tmp_path / "m8")
    assert code == 0
    assert re.search(r"\nQuality \d+ validation rows   ROUGE-L [\d.]+ -> [\d.]+   equal", out)


def test_other_rows_than_those_of_the_run_are_not_compared(capsys, tmp_path, summarizer):
    model, path = summarizer
    content = path.read_text()
    path.write_text(content.replace("a", "e"))
    _, out, _ = run(capsys, "quantize", model, "-o", tmp_path / "changed")
    path.unlink()
    _, missing, _ = run(capsys, "quantize", model, "-o", tmp_path / "missing", "--json")
    path.write_text(content)
    assert f"Quality not measured: {path}: has changed since the training.  Measure:" in out
    fields = json.loads(missing)
    assert fields["quality"] is None
    assert fields["reason"] == f"{path}: the training data cannot be read"


def test_the_folder_translates_like_a_model_of_its_weights_in_int8(trained, quantized):
    model, folder = regard.load(trained), regard.load(quantized)
    assert folder.precision == "int8"
    weights = ModelFolder(quantized).read_weights(takes_int8=True)
    load_weights(model.model, weights, name="weights")
    model.precision = "int8"
    assert folder.translate(WORDS) == model.translate(WORDS)


def test_the_folder_is_described_and_keeps_its_precision(capsys, quantized):
    code, out, _ = run(capsys, "info", quantized)
    assert code == 0
    assert "Writes  by compiled decoder, int8\n" in out
    size = (quantized / "model.safetensors").stat().st_size
    assert f"{size / 1e6:.1f} MB of weights in int8\n" in out
    assert "figures of the weights before int8" in out
    assert run(capsys, "translate", quantized, WORDS[0])[0] == 0
    assert run(capsys, "translate", quantized, WORDS[0], "--precision", "float32")[0] == 0


def test_it_is_refused_by_name_where_the_compiled_decoder_does_not_write(quantized, monkeypatch):
    monkeypatch.setattr(base_task, "why_through_operators", lambda _: "no compiler")
    with pytest.raises(WeightsError, match=r"m8: holds int8 weights.*no compiler"):
        regard.load(quantized)


def test_training_does_not_start_from_it(capsys, quantized, pairs_file, tmp_path):
    words = ("train", pairs_file, "-o", tmp_path / "new", "--from", quantized)
    code, out, err = run(capsys, *words)
    assert code == 4
    assert "holds int8 weights, which are for use alone" in err
    assert "Data" not in out + err  # refused before the data is read


def test_it_is_not_quantized_again_nor_over_a_model(capsys, trained, quantized, tmp_path):
    code, _, err = run(capsys, "quantize", quantized, "-o", tmp_path / "twice")
    assert code == 4
    assert "holds int8 weights already" in err
    code, _, err = run(capsys, "quantize", trained, "-o", quantized)
    assert code == 2
    assert "holds a model of regard" in err


@pytest.mark.usefixtures("quantized")
def test_a_full_disk_is_named_once_and_nothing_is_left(capsys, trained, tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy2", fail)
    code, out, err = run(capsys, "quantize", trained, "-o", tmp_path / "m8")
    assert (code, out) == (5, "")
    assert err.endswith("m8: cannot be written (No space left on device).\n")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_refused_and_left_as_it_is(capsys, trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = run(capsys, "quantize", trained, "-o", tmp_path)
    assert code == 2
    assert f"{tmp_path}: not empty: it has notes.txt.  Write to a new folder." in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_integers_without_their_scales_are_damage(quantized, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(quantized, folder)
    written = ModelFolder(folder)
    tensors = quantize({"a": torch.ones(2, 3)})
    del tensors["a.scale"]
    written.write_weights(tensors)
    with pytest.raises(WeightsError, match="tensor a holds integers without their scales"):
        written.read_weights(takes_int8=True)


@pytest.mark.parametrize("name", ["embedding.positions.weight", "position_bias.weight"])
def test_tables_of_positions_and_of_distances_are_not_rounded(name):
    assert quantize({name: torch.ones(2, 3)})[name].dtype == torch.float32


def test_rounding_is_half_a_step_of_each_row_and_happens_once():
    weights = {"w": torch.randn(5, 7) * torch.tensor([[1.0], [10.0], [0.0], [1e-6], [3.0]])}
    weights["bias"] = torch.randn(5)
    once = dequantize(quantize(weights), name="f")
    assert torch.equal(once["bias"], weights["bias"])
    error = (once["w"] - weights["w"]).abs().amax(1)
    assert bool((error <= 0.5001 * weights["w"].abs().amax(1) / 127).all())
    assert torch.equal(quantize(once)["w"], quantize(weights)["w"])


@pytest.mark.slow
def test_evaluate_takes_a_precision(capsys, trained, quantized, few_pairs_file):
    words = ("evaluate", trained, few_pairs_file, "--allow-overlap", "--beam", 1, "--json")
    scores = []
    for options in ((), ("--precision", "int8", "--threads", 1)):
        code, out, _ = run(capsys, *words, *options)
        assert code == 0
        scores.append(json.loads(out)["scores"]["chrf"]["value"])
    assert scores[0] == pytest.approx(scores[1], abs=5.0)


def test_a_published_folder_is_refused_by_its_kind(capsys, tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text('{"model_type": "marian"}')
    code, _, err = run(capsys, "quantize", tmp_path / "hf", "-o", tmp_path / "m8")
    assert code == 2
    assert "hf: a folder in Hugging Face's format; one that a run of training wrote was" in err
    assert not (tmp_path / "m8").exists()
