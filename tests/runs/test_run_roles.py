"""Runs of one side of a family alone: a language model, a classifier, an encoder."""

from __future__ import annotations

import json

import pytest
import torch
from tests.conftest import toy_pairs
from tests.settings.words import apply_settings
from tests.setup.decide import decide

from regard import load
from regard.errors import ConfigError
from regard.explain.diagram import draw_diagram
from regard.explain.layer_table import layer_table
from regard.hub.model_folder import ModelFolder
from regard.models import DECODERS, TransformerEncoder
from regard.runs.export_check import export_model
from regard.runs.information import inspect_folder
from regard.runs.run import resume, train
from regard.setup.config import RunConfig
from regard.setup.presets import SEQ2SEQ_PRESETS
from regard.tasks import TASKS
from regard.training.events import Saved

SMALL = (
    "preset=tiny",
    "model.dim=16",
    "tokenizer.vocab_size=400",
    "data.max_length=32",
    "training.batch_tokens=512",
    "training.epochs=1",
    "training.precision=float32",
)
HEADS = ("model.num_heads=2", "model.hidden_dim=32")
SIDES = {
    "transformer": ("model.num_decoder_layers=1", *HEADS),
    "lstm": ("model.num_decoder_layers=1",),
    "conv_s2s": ("model.num_decoder_layers=1",),
}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Two hundred sentences of a tiny language, one a line."""
    path = tmp_path_factory.mktemp("data") / "book.txt"
    path.write_text("".join(f"{source}.\n" for source, _ in toy_pairs(200)), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=SIDES)
def folder(request, tmp_path_factory, book):
    path = tmp_path_factory.mktemp("roles") / request.param
    train(book, path, settings=[f"model.family={request.param}", *SIDES[request.param], *SMALL])
    return path


@pytest.mark.slow
def test_a_language_model_is_the_decoder_alone(folder):
    opened = load(folder)
    assert type(opened.model) is DECODERS[folder.name].model
    found, model = inspect_folder(folder)
    assert found.summary.startswith(f"{folder.name} tiny   1 layers, d=16")
    layers = layer_table(model, 8)
    assert sum(row.num_parameters for row in layers if not row.depth) == found.num_parameters
    assert "source" not in draw_diagram(model)


def test_a_language_model_generates(folder):
    opened = load(folder)
    one, other = (opened.generate("7 red", max_tokens=4, seed=1) for _ in range(2))
    assert one.num_tokens > 0
    assert one == other


@pytest.mark.slow
def test_a_run_of_a_language_model_continues_as_it_would_have(tmp_path, book):
    settings = ["model.family=lstm", *SIDES["lstm"], *SMALL, "training.epochs=2"]

    class CrashError(Exception):
        pass

    def crash(event):
        if isinstance(event, Saved):
            raise CrashError

    with pytest.raises(CrashError):
        train(book, tmp_path / "stopped", settings=settings, report=crash)
    resume(tmp_path / "stopped")
    train(book, tmp_path / "whole", settings=settings)
    found, wanted = (ModelFolder(tmp_path / name).read_weights() for name in ("stopped", "whole"))
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reviews.jsonl"
    rows = [
        json.dumps({"text": text, "label": "cat" if "cat" in text else "none"})
        for text, _ in toy_pairs(200)
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


ENCODER = ("model.family=transformer", "model.num_encoder_layers=1", *HEADS, *SMALL)


@pytest.fixture(scope="module")
def masked(tmp_path_factory, book):
    """An encoder trained on hidden tokens."""
    path = tmp_path_factory.mktemp("roles") / "masked"
    train(book, path, settings=["task=masked-language-modeling", *ENCODER])
    return path


def test_an_encoder_of_the_transformer_learns_hidden_tokens(masked):
    opened = load(masked)
    assert type(opened.model) is TransformerEncoder
    assert opened.embed(["7 red cat"]).shape == (1, 16)


@pytest.mark.slow
def test_a_classifier_starts_from_an_encoder_of_the_transformer(tmp_path, reviews, masked):
    settings = (f"start_from={masked}", "training.epochs=1", "data.max_length=32")
    train(reviews, tmp_path / "mood", settings=settings)
    opened = load(tmp_path / "mood")
    assert opened.model.encoder.head is None
    assert inspect_folder(tmp_path / "mood")[0].summary.startswith("transformer tiny   1 layers")


@pytest.mark.slow
def test_sides_alone_have_no_published_layout(tmp_path, masked, folder):
    with pytest.raises(ConfigError) as caught:
        export_model(load(masked), tmp_path / "out")
    assert str(caught.value) == (
        "model.family=transformer: no published layout has a place for this model.  Families of "
        "this kind that have one: bert, longformer, modernbert.  A model that can be written is "
        "trained with `model.family=bert` `model.norm=post` `model.num_segments=2`."
    )
    with pytest.raises(ConfigError, match=rf"^model\.family={folder.name}: no published layout"):
        export_model(load(folder), tmp_path / "out")


@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
@pytest.mark.parametrize(
    ("task", "family", "counted"),
    [
        ("language-modeling", "transformer", "num_decoder_layers"),
        ("language-modeling", "lstm", "num_decoder_layers"),
        ("language-modeling", "conv_s2s", "num_decoder_layers"),
        ("classification", "transformer", "num_encoder_layers"),
        ("masked-language-modeling", "transformer", "num_encoder_layers"),
    ],
)
def test_a_side_alone_has_presets_of_its_own(task, family, counted, preset):
    config = decide(f"model.family={family}", f"preset={preset}", task=task)
    sizes = TASKS[task].presets[family][preset].model
    assert config.model == sizes != SEQ2SEQ_PRESETS[family][preset].model
    layers = getattr(config.model, counted)
    summary = TASKS[task].summarize(config)
    assert summary.startswith(f"{family} {preset}   {layers} layers, d={config.model.dim}")


@pytest.mark.parametrize(
    ("task", "family", "message"),
    [
        (
            "language-modeling",
            "bert",
            "model.family=bert: does not continue a text.  Take one of gpt, transformer_xl, "
            "mesanet, transformer, lstm, conv_s2s.",
        ),
        (
            "classification",
            "lstm",
            "model.family=lstm: does not classify.  Take one of bert, longformer, modernbert, "
            "transformer.",
        ),
        (
            "translation",
            "gpt",
            "model.family=gpt: does not translate.  Take one of transformer, t5, lstm, conv_s2s, "
            "encoder_decoder.",
        ),
    ],
)
def test_a_family_without_the_role_of_a_task_is_refused(task, family, message):
    config = apply_settings(RunConfig(task=task), [f"model.family={family}"])
    with pytest.raises(ConfigError) as caught:
        TASKS[task].build(config, 50)
    assert str(caught.value) == message


def test_a_family_for_another_task_is_refused_before_anything_is_read(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("One line.\n" * 3)
    events = []
    with pytest.raises(ConfigError, match=r"^model\.family=bert: does not continue a text\."):
        train(book, tmp_path / "m", settings=["model.family=bert"], report=events.append)
    assert not events
