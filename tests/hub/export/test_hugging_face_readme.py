"""The lines of the README of a folder for ``transformers`` give what the model gives."""

from __future__ import annotations

import ast

import pytest
import torch
from tests.hub.export.onnx_models import (
    ENCODER,
    opened,
    readme_names,
    train_tokenizer,
)

from regard.generation.beam_search_config import BeamSearchConfig
from regard.models import BertConfig, GptConfig, T5Config, TransformerConfig, VitConfig
from regard.runs.export_check import export_model
from regard.setup.config import QuestionAnsweringConfig

pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Using a slow image processor:FutureWarning"),
]


LONG = ENCODER | {"max_positions": 64}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.fixture
def printed(tmp_path, monkeypatch, capsys):
    """A function that exports a model and returns what the lines of its README print."""

    def run(model) -> str:
        export_model(model, tmp_path / "hf", "hf")
        capsys.readouterr()
        readme_names(tmp_path / "hf", monkeypatch)
        return capsys.readouterr().out.strip()

    return run


def test_texts_have_the_labels_of_the_model(tokenizer, printed):
    config = BertConfig(**LONG, num_segments=2, has_pooler=True)
    data = {"labels": ("joy", "anger", "fear"), "max_length": 60}
    model = opened("classification", config, tokenizer, data=data)
    torch.nn.init.normal_(model.model.output_weight)
    rows = [ast.literal_eval(line) for line in printed(model).splitlines()]
    expected = model.classify(["One text.", "Another text, which is longer."])
    assert [row["label"] for (row,) in rows] == [output.label for output in expected]
    probabilities = [output.probability for output in expected]
    assert [row["score"] for (row,) in rows] == pytest.approx(probabilities, abs=1e-5)


def test_the_answer_is_that_of_the_model(tokenizer, printed):
    model = opened(
        "question-answering",
        BertConfig(**LONG, num_segments=2),
        tokenizer,
        qa=QuestionAnsweringConfig(match_words=False, max_answer_tokens=30),
        data={"max_length": 60},
    )
    torch.nn.init.normal_(model.model.output_weight)
    model.threshold = None
    expected = model.answer("Who wrote it?", "It was written by a person in 2020.").answer
    assert printed(model) == expected


def test_the_hidden_token_is_that_of_the_model(tokenizer, printed):
    model = opened(
        "masked-language-modeling", BertConfig(**ENCODER | {"has_mlm_head": True}), tokenizer
    )
    (expected,) = model.fill("This is <mask>.")
    best = printed(model).splitlines()[0]
    assert float(best.split()[-1]) == pytest.approx(expected[0][1], abs=1e-5)


def test_a_text_is_continued_as_by_the_model(tokenizer, printed):
    config = GptConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=24, max_positions=32)
    model = opened("language-modeling", config, tokenizer)
    assert printed(model).startswith("Once")


def test_a_text_is_translated_as_by_the_model(tokenizer, printed):
    config = TransformerConfig(
        num_encoder_layers=1,
        num_decoder_layers=1,
        dim=16,
        num_heads=2,
        hidden_dim=24,
        positions="sinusoidal_halves",
    )
    model = opened("translation", config, tokenizer)
    expected = model.translate("Good morning", beam=1)  # as long as a source allows
    assert expected and printed(model).startswith(expected)


def test_a_long_source_is_cut_where_the_model_cuts_it(tokenizer, tmp_path, monkeypatch, capsys):
    config = T5Config(
        num_encoder_layers=1,
        num_decoder_layers=1,
        dim=16,
        num_heads=2,
        hidden_dim=24,
    )
    data = {"max_length": 12, "max_source_length": 5, "source_prefix": "summarize: "}
    search = BeamSearchConfig(max_length=6)
    model = opened("summarization", config, tokenizer, data=data, search=search)
    export_model(model, tmp_path / "hf", "hf")
    readme = (tmp_path / "hf" / "README.md").read_text()
    assert "A source has 5 tokens at most, its end not counted: `regard` cuts the end" in readme
    capsys.readouterr()
    names = readme_names(tmp_path / "hf", monkeypatch)
    row = names["tokenizer"]("summarize: a text that goes on for much longer", truncation=True)
    ids = model.tokenizer.encode(["summarize: a text that goes on for much longer"])[0]
    assert row["input_ids"] == [*ids[:5], model.tokenizer.eos_id]
    assert names["row"]["input_ids"].shape[1] <= 6


def test_an_image_has_labels_of_the_model(printed):
    pytest.importorskip("PIL")
    sizes = {"height": 4, "width": 6, "channels": 3, "patch_height": 2, "patch_width": 3}
    config = VitConfig(num_layers=1, dim=8, num_heads=2, hidden_dim=8, num_labels=3, **sizes)
    data = {"labels": ("a", "b", "c"), "mean": (90.0,) * 3, "std": (40.0,) * 3}
    (best, *_) = ast.literal_eval(printed(opened("image-classification", config, data=data)))
    assert best["label"] in {"a", "b", "c"}


def test_vectors_are_those_of_sentence_transformers(tokenizer, tmp_path):
    model = opened("masked-language-modeling", BertConfig(**ENCODER), tokenizer)
    export_model(model, tmp_path / "hf", "hf")
    readme = (tmp_path / "hf" / "README.md").read_text()
    assert 'SentenceTransformer(".").encode(["One text."' in readme
