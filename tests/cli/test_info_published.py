"""``regard info`` of a folder in Hugging Face's layout: no run, but all that the model is."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tests.tasks.translation.published_languages import CODES, nllb_folder

import regard
from regard.__main__ import main
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.hub.hugging_face.published_folder import write_hugging_face
from regard.hub.hugging_face.published_tokenizer import vocabulary_files
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    CHECKPOINT_FORMATS,
    BertConfig,
    Classifier,
    GptConfig,
    TransformerConfig,
    make_model,
)

SIZES: dict[str, Any] = {"dim": 16, "num_heads": 2, "hidden_dim": 24}
BERT = BertConfig(**SIZES, num_layers=2, has_mlm_head=False, has_pooler=True, max_positions=40)
GPT = GptConfig(**SIZES, num_layers=3)
MARIAN = TransformerConfig(
    **SIZES,
    num_encoder_layers=1,
    num_decoder_layers=2,
    norm="post",
    positions="sinusoidal_halves",
    max_positions=40,
)
KINDS: dict[str, Any] = {"bert": BERT, "llama": GPT, "marian": MARIAN}


@pytest.fixture
def write(tmp_path):
    """Write a folder of a layout; return its place."""

    def run(layout, *, labels=(), has_vocabulary=True):
        tokenizer = Tokenizer.train(["a red cat"] * 3, TokenizerConfig(kind="byte"))
        config = KINDS[layout]
        model: Any = make_model(config, len(tokenizer), AttentionConfig())
        model = Classifier(model, len(labels)) if labels else model
        files = vocabulary_files(tokenizer) if has_vocabulary else {}
        write_hugging_face(
            tmp_path,
            model,
            config,
            CHECKPOINT_FORMATS[layout],
            len(tokenizer),
            files=files,
            labels=labels,
            shard_bytes=2000,
        )
        return tmp_path

    return run


def shown(folder, capsys, *words):
    assert main(["info", str(folder), *map(str, words)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "task", "use"),
    [
        ("bert", "masked-language-modeling", "regard train reviews.jsonl --from {} -o NEW"),
        ("llama", "language-modeling", "regard generate {} PROMPT"),
        ("marian", "translation", "regard translate {} TEXT"),
    ],
)
def test_sizes_vocabulary_costs_parts_and_uses_are_reported(layout, task, use, write, capsys):
    folder = write(layout)
    out = shown(folder, capsys)
    model = regard.load(folder).model
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"{KINDS[layout].summary(AttentionConfig())}   {count:,} parameters   sha " in out
    search = (
        "Search  beam 4, log-probability / length^1, at most " if layout == "marian" else "Cost "
    )
    assert f"Layout  {layout} of transformers, for {task}\nTokens  published 259\n{search}" in out
    assert f"\nUse     {use.format(folder)}\n" in out
    assert "MB of weights" in out
    assert "FLOP a token" in out
    assert "\nRun " not in out
    assert "\nData " not in out


def test_a_classifier_tells_its_labels(write, capsys):
    out = shown(write("bert", labels=("joy", "anger")), capsys)
    assert "Layout  bert of transformers, for classification\n" in out
    assert "Labels  2: joy, anger\n" in out


@pytest.mark.slow
def test_a_folder_without_a_vocabulary_says_so(write, capsys):
    folder = write("llama", has_vocabulary=False)
    expected = "Tokens  published 259   no vocabulary in the folder: token ids only, no text\n"
    assert expected in shown(folder, capsys)
    assert json.loads(shown(folder, capsys, "--json"))["has_vocabulary"] is False


@pytest.mark.slow
def test_json_has_layout_layers_and_no_run(write, capsys):
    found = json.loads(shown(write("marian"), capsys, "--json", "--length", 7))
    assert (found["layout"], found["length"], found["vocab_size"]) == ("marian", 7, 259)
    assert (found["figures"], found["num_evaluations"], found["is_finished"]) == ({}, 0, False)
    assert found["flops_per_token"] > 0
    assert (
        sum(row["num_parameters"] for row in found["layers"] if row["depth"] == 0)
        == (found["num_parameters"])
    )


@pytest.mark.slow
def test_a_diagram_is_drawn(write, capsys):
    out = shown(write("bert", labels=("joy", "anger")), capsys, "--diagram", "mermaid")
    assert out.splitlines()[1] == "flowchart TB"


@pytest.mark.slow
def test_the_hash_covers_all_shards(write, capsys):
    folder = write("llama")
    before = json.loads(shown(folder, capsys, "--json"))["sha"]
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    content = bytearray(shards[-1].read_bytes())
    content[-1] ^= 1
    shards[-1].write_bytes(bytes(content))
    assert json.loads(shown(folder, capsys, "--json"))["sha"] != before
    assert torch.isfinite(regard.load(folder).model.get_parameter("output_weight")).all()


def test_the_languages_of_a_model_of_many_are_counted_and_named(tmp_path, capsys):
    nllb_folder(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("Langs")]
    assert line == (
        "Langs   5: German, English, French, Chinese (Simplified), Chinese (Traditional)"
    )
    assert main(["info", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["languages"] == CODES
