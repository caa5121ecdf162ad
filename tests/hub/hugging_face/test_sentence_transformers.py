"""Folders of sentence-transformers: vectors of texts are those that its modules compute."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.hub.hugging_face.test_architectures import SIZES, publish

import regard
from regard.errors import ConfigError, WeightsError
from regard.hub.hugging_face.sentence_transformers import read_sentence_pooling
from regard.runs.export_check import export_model

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "red", "Red", "cat", "sees", "a"]
TEXTS = ["the Red cat", "", "a cat sees the red cat sees a cat sees"]
MODULES = ("Transformer", "Pooling", "Normalize")
MAX_LENGTH = 6
PACKAGE = "sentence_transformers.models"


def write_modules(folder: Path, kinds=MODULES, *, transformer="", **pooling: Any) -> None:
    """Write the list of modules and their settings."""
    paths = {"Transformer": transformer} | {kind: f"1_{kind}" for kind in kinds[1:]}
    modules = [
        {"idx": number, "name": str(number), "path": paths[kind], "type": f"{PACKAGE}.{kind}"}
        for number, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path in paths.values():
        (folder / path).mkdir(exist_ok=True)
    if pooling:
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    settings = {"max_seq_length": MAX_LENGTH, "do_lower_case": False}
    (folder / transformer / "sentence_bert_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def published(transformers, tmp_path_factory) -> Path:
    """A BERT with a vocabulary."""
    folder = tmp_path_factory.mktemp("sentences")
    torch.manual_seed(1)
    publish(transformers, "Bert", "Model", folder, max_position_embeddings=9)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return folder


@pytest.fixture
def folder(published, tmp_path) -> Path:
    """A copy of it with its modules."""
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    write_modules(tmp_path, pooling_mode_mean_tokens=True)
    return tmp_path


def load(folder: Path) -> Any:
    return regard.load(folder)


def their_states(transformers, folder: Path, text: str, **options: Any) -> torch.Tensor:
    """Return the last hidden states of a text in `transformers`, ``[length, dim]``."""
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    row = tokenizer(text, truncation=True, return_tensors="pt", **options)
    with torch.no_grad():
        return model(**row).last_hidden_state[0]


def test_vectors_are_means_of_length_one_of_short_and_long_texts(folder, transformers):
    opened = load(folder)
    assert opened.max_length == MAX_LENGTH
    states = [their_states(transformers, folder, text, max_length=MAX_LENGTH) for text in TEXTS]
    means = torch.stack([state.mean(0) for state in states])
    expected = means / means.norm(dim=1, keepdim=True)
    assert float((opened.embed(TEXTS) - expected).abs().max()) < 1e-6


def test_no_texts_have_no_vectors(folder):
    assert load(folder).embed([]).shape == (0, load(folder).embed("a cat").shape[-1])


@pytest.mark.parametrize("texts", [None, 3, [3], b"a", [["a"]]])
def test_what_is_no_text_has_no_vector_and_is_not_filled(folder, texts):
    with pytest.raises(ConfigError, match=r"texts(\[0\])?: a text .*was expected, not"):
        load(folder).embed(texts)
    with pytest.raises(ConfigError, match=r"text\[0\]: a text was expected, not"):
        load(folder).fill(texts)
    with pytest.raises(ConfigError, match=r"num must be a whole number, 1 to \d+, not 0"):
        load(folder).fill("a", num=0)


def test_a_single_text_has_a_single_vector(folder):
    opened = load(folder)
    assert torch.equal(opened.embed(TEXTS[0]), opened.embed(TEXTS)[0])


POOLED = {
    "cls": lambda states: states[0],
    "max": lambda states: states.max(0).values,
    "mean": lambda states: states.mean(0),
    "mean_sqrt_len_tokens": lambda states: states.sum(0) / len(states) ** 0.5,
    "weightedmean": lambda states: (
        sum((n + 1) * state for n, state in enumerate(states))
        / (len(states) * (len(states) + 1) / 2)
    ),
    "lasttoken": lambda states: states[-1],
}


@pytest.mark.parametrize("mode", POOLED)
def test_each_way_of_pooling_is_that_of_its_name(mode, folder, transformers):
    write_modules(folder, MODULES[:2], pooling_mode=mode)
    expected = POOLED[mode](their_states(transformers, folder, TEXTS[0], max_length=MAX_LENGTH))
    assert float((load(folder).embed(TEXTS[0]) - expected).abs().max()) < 1e-6


def test_several_ways_of_pooling_are_joined_in_the_order_of_the_library(folder):
    write_modules(folder, MODULES[:2], pooling_mode_mean_tokens=True, pooling_mode_cls_token=True)
    joined = load(folder).embed("the cat")
    write_modules(folder, MODULES[:2], pooling_mode=["cls"])
    assert torch.equal(joined[: SIZES["hidden_size"]], load(folder).embed("the cat"))
    assert len(joined) == 2 * SIZES["hidden_size"]


def test_a_transformer_in_its_own_folder_is_the_same_model(folder, tmp_path_factory):
    expected = load(folder).embed(TEXTS)
    nested = tmp_path_factory.mktemp("nested")
    shutil.copytree(folder, nested / "0_Transformer")
    shutil.rmtree(nested / "0_Transformer" / "1_Pooling")
    (nested / "0_Transformer" / "modules.json").unlink()
    write_modules(nested, transformer="0_Transformer", pooling_mode_mean_tokens=True)
    assert torch.equal(load(nested).embed(TEXTS), expected)


def test_texts_are_read_in_lower_case_where_the_folder_says_so(folder):
    opened = load(folder)
    lower = opened.embed("the red cat")
    assert not torch.equal(opened.embed("the Red cat"), lower)
    settings = '{"max_seq_length": 6, "do_lower_case": true}'
    (folder / "sentence_bert_config.json").write_text(settings)
    assert torch.equal(load(folder).embed("the Red cat"), lower)


def test_a_default_prompt_is_put_before_each_text(folder):
    expected = load(folder).embed("the red cat")
    settings = {"prompts": {"query": "the red "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert torch.equal(load(folder).embed("cat"), expected)


def test_without_its_own_length_a_text_is_cut_as_the_vocabulary_says(folder, transformers):
    (folder / "sentence_bert_config.json").write_text("{}")
    assert load(folder).max_length == 9  # positions
    settings = {"do_lower_case": False, "model_max_length": 5}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    mean = their_states(transformers, folder, TEXTS[2], max_length=5).mean(0)
    assert float((load(folder).embed(TEXTS[2]) - mean / mean.norm()).abs().max()) < 1e-6


@pytest.mark.parametrize(
    "kinds",
    [
        ("Transformer", "Pooling", "Dense"),
        ("Transformer",),
        ("Transformer", "Normalize", "Pooling"),
        ("WordEmbeddings", "Pooling"),
    ],
)
def test_modules_that_are_not_computed_are_refused_by_their_names(kinds, folder):
    write_modules(folder, kinds) if kinds[0] == "Transformer" else change_modules(folder, kinds)
    with pytest.raises(ConfigError, match=f"modules.json: the modules {', '.join(kinds)}: read"):
        load(folder)


def test_a_class_of_another_package_is_refused_whatever_its_name(folder):
    write_modules(folder, MODULES)
    path = folder / "modules.json"
    path.write_text(path.read_text().replace(f"{PACKAGE}.Transformer", "custom_st.Transformer"))
    message = "modules.json: the modules custom_st.Transformer, Pooling, Normalize: read are"
    with pytest.raises(ConfigError, match=message):
        load(folder)


def change_modules(folder: Path, kinds) -> None:
    modules = [{"idx": n, "path": "", "type": f"{PACKAGE}.{kind}"} for n, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "middle"}, "pooling_mode=.*known are cls, max"),
        ("1_Pooling/config.json", {"pooling_mode": 5}, "pooling_mode=5: known are cls, max"),
        ("1_Pooling/config.json", {"pooling_mode": [["mean"]]}, "known are cls, max"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length=0: expected 1"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "not computed here"),
        (
            "sentence_bert_config.json",
            {"tokenizer_args": {"do_lower_case": False, "use_fast": True}},
            r"tokenizer_args: do_lower_case: not obeyed here\.  Write what it says into",
        ),
        ("sentence_bert_config.json", {"config_kwargs": {"hidden_act": "relu"}}, "hidden_act: not"),
        ("config_sentence_transformers.json", {"truncate_dim": 8}, "truncate_dim=8"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "no such prompt"),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": ["q"], "prompts": {"q": "x"}},
            "no such prompt",
        ),
    ],
)
def test_settings_that_are_not_computed_are_refused(name, fields, message, folder):
    (folder / name).write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match=message):
        load(folder)


def test_arguments_that_leave_vectors_as_they_are_are_taken(folder):
    arguments = {"model_args": {"attn_implementation": "sdpa"}, "config_args": {}}
    arguments["processor_kwargs"] = {"use_fast": True}
    expected = load(folder).embed(["a text"])
    (folder / "sentence_bert_config.json").write_text(json.dumps(arguments))
    assert torch.equal(load(folder).embed(["a text"]), expected)


@pytest.mark.parametrize(
    "content", ["[1]", "{}", '[{"idx": 0, "type": "a.Transformer", "path": "../x"}]', "["]
)
def test_a_damaged_list_of_modules_is_named(content, folder):
    (folder / "modules.json").write_text(content)
    with pytest.raises((WeightsError, ConfigError), match=r"modules\.json"):
        load(folder)


def test_a_decoder_in_such_a_folder_is_refused(transformers, tmp_path):
    publish(transformers, "GPT2", "Model", tmp_path)
    write_modules(tmp_path, pooling_mode="lasttoken")
    with pytest.raises(ConfigError, match="vectors of texts are computed by encoders alone"):
        load(tmp_path)


def test_another_folder_has_no_modules(published):
    assert read_sentence_pooling(published) is None
    assert not load(published).pooling.is_normalized


def test_an_exported_folder_has_the_same_vectors(folder, tmp_path_factory):
    settings = {"prompts": {"query": "the red "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    write_modules(folder, pooling_mode=["cls", "mean"])
    opened, out = load(folder), tmp_path_factory.mktemp("out")
    exported = export_model(opened, out, texts=TEXTS)
    assert exported.texts.is_equal
    assert load(out).pooling == opened.pooling
    assert torch.equal(load(out).embed(TEXTS), opened.embed(TEXTS))
