"""An export is called equal only after real texts went through it, with its own vocabulary."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from tests.conftest import toy_pairs
from tests.models.published_weights import spread

import regard
from regard.__main__ import main
from regard.data.masking import MASK
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import ConfigError, DataError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.export import EXPORTS
from regard.layers.rotary_scaling import DynamicScaling
from regard.models import BertConfig, Classifier, GptConfig, TransformerConfig
from regard.runs.export_check import export_model
from regard.runs.text_check import check_texts, compare_outputs, validation_texts
from regard.runs.text_outputs import TextOutput, model_outputs
from regard.runs.transformers_peer import TRANSFORMERS
from regard.settings.binding import from_toml
from regard.setup.config import DataConfig, RunConfig
from regard.tasks import task_named
from regard.tasks.opening import Predictor

TEXTS = ["7 red cat sees the tree", "a\n\n old dog\n", "the red tree likes " * 9, "Fluß"]
GPT2: dict[str, Any] = {
    "norm_kind": "layer",
    "activation": "gelu_tanh",
    "bias": True,
    "positions": "learned",
}
BERT: dict[str, Any] = {
    "num_layers": 1,
    "dim": 16,
    "num_heads": 2,
    "hidden_dim": 24,
    "max_positions": 32,
}
MODELS: dict[str, tuple[str, Any]] = {
    "dynamic": (
        "language-modeling",
        GptConfig(
            num_layers=1,
            dim=16,
            num_heads=2,
            hidden_dim=24,
            max_positions=64,
            rotary_scaling=DynamicScaling(factor=4.0),
        ),
    ),
    "llama": (
        "language-modeling",
        GptConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=24),
    ),
    "gpt2": (
        "language-modeling",
        GptConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=24, max_positions=64, **GPT2),
    ),
    "bert": (
        "masked-language-modeling",
        BertConfig(**BERT, has_mlm_head=True, has_pooler=False, epsilon=1e-12),
    ),
    "vectors": (
        "masked-language-modeling",
        BertConfig(**BERT, has_mlm_head=False, has_pooler=False, epsilon=1e-12),
    ),
    "labels": (
        "classification",
        BertConfig(**BERT, has_mlm_head=False, has_pooler=True, pooling="first", epsilon=1e-12),
    ),
    "marian": (
        "translation",
        TransformerConfig(
            num_encoder_layers=1,
            num_decoder_layers=1,
            dim=16,
            num_heads=2,
            hidden_dim=24,
            norm="post",
            positions="sinusoidal_halves",
        ),
    ),
    "bart": (
        "translation",
        TransformerConfig(
            num_encoder_layers=1,
            num_decoder_layers=1,
            dim=16,
            num_heads=2,
            hidden_dim=24,
            norm="post",
            positions="learned",
            position_offset=2,
            has_embedding_norm=True,
            max_positions=26,
        ),
    ),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS * 3, TokenizerConfig(vocab_size=300, tags=(MASK,)))


def opened(kind: str, tokenizer: Tokenizer) -> Predictor:
    """Make a model of drawn weights with a vocabulary of our own."""
    name, model_config = MODELS[kind]
    labels = ("joy", "anger", "fear") if kind == "labels" else ()
    data = DataConfig(labels=labels, max_length=24)
    task = task_named(name)
    config = RunConfig(task=name, model=model_config, data=data, search=task.defaults.search)
    model = task.build(config, len(tokenizer))
    spread(model, gain=1.0)
    if isinstance(model, Classifier):
        torch.nn.init.normal_(model.output_weight)
    return task.predictor(model.eval(), tokenizer, config)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "bart"])
def test_real_texts_give_the_same_in_an_exported_folder(kind, tokenizer, transformers, tmp_path):
    model = opened(kind, tokenizer)
    exported = export_model(model, tmp_path, texts=TEXTS)
    assert exported.texts.is_equal, exported.texts
    assert (exported.texts.num_texts, exported.texts.peer) == (
        3 if kind == "marian" else 4,  # a long source is translated in parts
        "transformers",
    )
    assert exported.texts.beam == 1  # the search itself was compared, not a greedy one
    inputs = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXTS[0])
    has_segments = kind in ("bert", "vectors", "labels")
    assert ("token_type_ids" in inputs) == has_segments


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "labels", "bert", "marian"])
def test_an_exported_folder_opened_here_gives_the_same(kind, tokenizer, tmp_path):
    model: Any = opened(kind, tokenizer)
    export_model(model, tmp_path)
    again: Any = regard.load(tmp_path)
    if kind == "llama":
        for text in TEXTS:
            assert again.tokenizer.encode_prompt(text) == tokenizer.encode_prompt(text)
        assert again.tokenizer.document_start == tokenizer.document_start
        assert again.config.sampling == model.config.sampling
        assert again.generate("7 red", seed=1) == model.generate("7 red", seed=1)
    elif kind == "labels":
        assert again.classify_rows(TEXTS) == model.classify_rows(TEXTS)
    elif kind == "bert":
        assert again.fill("7 <mask> cat") == model.fill("7 <mask> cat")
    else:
        assert again.translate(TEXTS) == model.translate(TEXTS)


@pytest.mark.slow
def test_outputs_that_fill_the_table_of_positions_are_compared(tokenizer, transformers, tmp_path):
    model: Any = opened("bart", tokenizer)
    with torch.no_grad():
        model.model.output_weight[tokenizer.special_ids["eos"]] = 0  # outputs do not end
    search = replace(model.config.search, max_length_ratio=None, max_length=26)
    model.config = replace(model.config, search=search)
    check = export_model(model, tmp_path, texts=TEXTS[:2]).texts
    assert (check.is_equal, check.num_texts) == (True, 2)
    assert 0 < check.difference < 1e-5


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_an_export_with_other_tokens_around_a_text_is_not_equal(tokenizer, transformers, tmp_path):
    model = opened("labels", tokenizer)
    export_model(model, tmp_path, texts=TEXTS[:1])
    change_json(tmp_path / "tokenizer.json", post_processor=None)
    check = check_texts(tmp_path, model, TRANSFORMERS, path=None, texts=TEXTS[:1])
    assert (check.num_texts, check.num_equal, check.is_equal) == (1, 0, False)
    assert check.first == "'7 red cat sees the tree': tokens from number 8 on [2], there []"


def test_an_export_with_other_labels_is_not_equal(tokenizer, transformers, tmp_path):
    model = opened("labels", tokenizer)
    export_model(model, tmp_path, texts=TEXTS[:1])
    labels = json.loads((tmp_path / "config.json").read_text())["id2label"]
    change_json(
        tmp_path / "config.json", id2label=dict(zip("012", reversed(labels.values()), strict=True))
    )
    check = check_texts(tmp_path, model, TRANSFORMERS, path=None, texts=TEXTS)
    assert check.num_equal < check.num_texts
    assert check.difference > 1e-4


def test_long_outputs_are_shown_from_where_they_differ():
    own, theirs = (TextOutput((1,), "a" * 70 + end) for end in (" cat", "bird"))
    check = compare_outputs(["x"], [own], [theirs], source="texts", peer="onnxruntime")
    assert check.first == "'x': 70 equal characters, then ' cat', there 'bird'"


@pytest.mark.parametrize(("beam", "power"), [(4, 0.45), (1, None)])
def test_beams_are_ranked_outside_by_the_nearest_power_of_the_length(
    beam, power, tokenizer, tmp_path
):
    model: Any = opened("marian", tokenizer)
    search = BeamSearchConfig(ranking="wu", beam=beam, length_penalty=0.6)
    model.config = replace(model.config, search=search)
    export_model(model, tmp_path)
    fields = json.loads((tmp_path / "generation_config.json").read_text())
    assert fields.get("length_penalty") == (power and pytest.approx(power))
    again: Any = regard.load(tmp_path)
    assert again.config.search.length_penalty == 0.6  # here by the function of Wu et al.


def test_beams_that_are_ranked_otherwise_outside_are_counted(tokenizer, tmp_path):
    model: Any = opened("marian", tokenizer)
    model.config = replace(model.config, search=BeamSearchConfig(ranking="wu"))

    def outputs(_folder: Path, asked: Any, texts: Sequence[str]) -> list[TextOutput]:
        """Write as the model does, but one output of a beam."""
        _, own = model_outputs(asked, texts)
        is_beam = asked.config.search.beam > 1
        return [own[0]._replace(output="another"), *own[1:]] if is_beam else own

    peer = TRANSFORMERS._replace(name="regard", outputs=outputs)
    check = check_texts(tmp_path, model, peer, path=None, texts=TEXTS)
    assert (check.is_equal, check.num_texts) == (True, 3)  # greedily
    assert (check.beam, check.num_equal_beams) == (4, 2)
    assert check.search_difference == "ranks outputs by another function of their length"


@pytest.mark.slow
def test_outputs_that_a_limit_by_the_source_ends_are_counted(tokenizer, transformers, tmp_path):
    model: Any = opened("marian", tokenizer)
    with torch.no_grad():
        model.model.output_weight[tokenizer.special_ids["eos"]] = 0  # outputs do not end
    check = export_model(model, tmp_path / "a", texts=TEXTS).texts
    assert (check.is_equal, check.num_limited) == (True, 3)
    search = replace(model.config.search, max_length_ratio=None, max_length=20)
    model.config = replace(model.config, search=search)
    check = export_model(model, tmp_path / "b", texts=TEXTS).texts
    assert (check.is_equal, check.num_limited) == (True, 0)


@pytest.mark.parametrize(("to", "hint"), [("hff", "  Did you mean hf?"), (3, "")])
def test_an_unknown_format_is_refused_with_the_closest_one(tokenizer, tmp_path, to, hint):
    with pytest.raises(ConfigError) as caught:
        export_model(opened("llama", tokenizer), tmp_path, to)
    names = ", ".join(EXPORTS)
    assert str(caught.value) == f"`to={to}`: one of {names} was expected.{hint}"


def test_without_texts_nothing_is_called_equal(tokenizer, tmp_path):
    exported = export_model(opened("llama", tokenizer), tmp_path)
    assert not exported.texts.is_equal
    assert exported.texts.reason == "the validation data is not at hand"


def test_without_the_library_nothing_is_called_equal(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    exported = export_model(opened("llama", tokenizer), tmp_path, texts=TEXTS)
    assert exported.texts.reason == (
        "the package transformers is not installed (pip install transformers)"
    )
    assert not exported.texts.needs_texts
    assert exported.peer_difference is None


def test_texts_of_a_file_are_read_before_anything_is_written(tokenizer, transformers, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("7 red cat\n\n old dog\n")
    model = opened("vectors", tokenizer)
    exported = export_model(model, tmp_path / "out", texts_path=str(path))
    assert (exported.texts.num_equal, exported.texts.source) == (2, str(path))
    path.write_text("\n\n")
    with pytest.raises(DataError, match="holds no text"):
        export_model(model, tmp_path / "other", texts_path=str(path))
    assert not (tmp_path / "other").exists()


def test_the_validation_data_is_used_only_while_it_is_unchanged(trained):
    config = from_toml((trained / "config.toml").read_text(), RunConfig, name="config.toml")
    texts, sources = validation_texts(config), [source for source, _ in toy_pairs(400)]
    assert 10 <= len(texts) < 100
    assert set(texts) <= set(sources)
    assert validation_texts(replace(config, data=replace(config.data, sha256="0"))) == []
    assert validation_texts(replace(config, data=replace(config.data, path="gone.tsv"))) == []
    assert validation_texts(RunConfig()) == []


@pytest.mark.slow
@pytest.mark.parametrize("has_texts", [True, False])
def test_the_command_says_what_was_checked(has_texts, tokenizer, transformers, tmp_path, capsys):
    export_model(opened("llama", tokenizer), tmp_path / "hf")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    command = ["export", str(tmp_path / "hf"), "-o", str(tmp_path / "out")]
    if has_texts:
        command += ["--texts", str(tmp_path / "texts.txt")]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Written {tmp_path}/out   hf, model_type llama"
    assert lines[1].startswith("Logits  largest difference 0.0e+00 when read again, ")
    if has_texts:
        assert lines[2].startswith(f"Equal   5 texts ({tmp_path}/texts.txt) in transformers: ")
    else:
        assert lines[2] == (
            "Not checked on real texts: the validation data is not at hand.  Check: regard export "
            f"{tmp_path}/hf -o {tmp_path}/out --to hf --texts FILE"
        )
