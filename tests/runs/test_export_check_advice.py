"""What a refused export names is enough: a model that is trained with it is written, and equal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from tests.models.published_weights import spread
from tests.setup.decide import decide

from regard.data.tokenizer import Tokenizer
from regard.errors import ConfigError
from regard.models import Classifier
from regard.runs.export_check import export_model
from regard.tasks import task_of

TEXTS = ["7 red cat sees the tree", "a old dog", "the red tree likes the red cat"]
QUESTIONS = ["who sees the tree ? the red cat sees the tree"]
SIDES = ("num_encoder_layers=1", "num_decoder_layers=1")
SIZES = ("dim=16", "num_heads=2", "hidden_dim=24")
FACTS: dict[str, dict[str, Any]] = {
    "classification": {"labels": ("anger", "joy")},
    "image-classification": {
        "labels": ("cat", "dog"),
        "model": {"height": 8, "width": 8, "patch_height": 4, "patch_width": 2, "num_labels": 2},
    },
}
QA = "question-answering"
CASES = [
    ("translation", "transformer", SIDES, ("search.max_length=12",)),
    ("translation", "lstm", (*SIDES, "dim=16"), ("search.max_length=12",)),
    ("translation", "encoder_decoder", (), ("preset=tiny", "search.max_length=12")),
    (QA, "transformer", SIDES, ("qa.kind=generative", "search.max_length=12")),
    ("language-modeling", "transformer", SIDES, ()),
    (
        "language-modeling",
        "gpt",
        ("num_kv_heads=1", "activation=relu"),
        ("attention.cross=local:3",),
    ),
    ("masked-language-modeling", "transformer", SIDES, ()),
    ("masked-language-modeling", "longformer", ("num_layers=1", "question_end_id=5"), ()),
    ("classification", "transformer", SIDES, ("attention.encoder=local:4",)),
    ("classification", "longformer", ("num_layers=1", "num_global=2"), ()),
    (QA, "bert", ("num_layers=1", "activation=swiglu"), ()),
    (QA, "bert", ("num_layers=1", "num_segments=1"), ("qa.match_words=false",)),
    (QA, "longformer", ("num_layers=1",), ("attention.pattern=local:4",)),
    (QA, "longformer", ("num_layers=1", "question_end_id=2"), ("qa.match_words=false",)),
    (
        "image-classification",
        "vit",
        ("num_layers=1", "has_pooler=true"),
        ("attention.pattern=local:4",),
    ),
]

WRITERS = [
    (
        "translation",
        "transformer",
        (*SIDES, "has_copy=true"),
        ("search.max_length=12", "attention.encoder=local:3"),
    ),
    ("translation", "lstm", (*SIDES, "dim=16"), ("search.max_length=12",)),
    (QA, "transformer", SIDES, ("qa.kind=generative", "search.max_length=12")),
    ("language-modeling", "lstm", ("num_decoder_layers=1", "dim=16"), ()),
    ("language-modeling", "mesanet", ("num_layers=1",), ()),
]
"""Models that CTranslate2 does not take as they are."""


def build(task: str, settings: Sequence[str]) -> Any:
    """Return a model of drawn weights, with the settings that a run decides."""
    config = decide(*settings, task=task, **FACTS.get(task, {}))
    kind = task_of(config)
    tokenizer = None
    if not kind.reads_inputs:
        tokenizer = Tokenizer.train(TEXTS * 3, replace(config.tokenizer, vocab_size=300))
    model = kind.build(config, 0 if tokenizer is None else len(tokenizer))
    spread(model, gain=1.0)
    if isinstance(model, Classifier):
        torch.nn.init.normal_(model.output_weight)
    return kind.predictor(model.eval(), tokenizer, config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "task", "family", "sizes", "others"),
    [*(("hf", *case) for case in CASES), *(("ctranslate2", *case) for case in WRITERS)],
)
def test_a_model_with_the_settings_that_are_named_is_written_and_equal(
    to, task, family, sizes, others, transformers, tmp_path
):
    if to == "ctranslate2":
        pytest.importorskip("ctranslate2")
    own = ("num_encoder_layers=1", "dim=16") if family == "lstm" else SIZES
    own = () if family == "encoder_decoder" else own
    sizes = [f"model.{setting}" for setting in (*own, *sizes)]
    refused = build(task, [f"model.family={family}", *sizes, *others])
    with pytest.raises(ConfigError) as caught:
        export_model(refused, tmp_path / "refused", to)
    advice, *_ = str(caught.value).partition("is trained with")[2].split("  ")
    named = re.findall(r"`([^`]+)`", advice)
    if any(setting.startswith("model.family=") for setting in named):
        sizes = []  # they were of another family
    else:
        named.append(f"model.family={family}")
    opened = build(task, [*sizes, *others, *named, "preset=tiny"])
    texts = {QA: QUESTIONS, "image-classification": []}.get(task, TEXTS)
    exported = export_model(opened, tmp_path / "new", to, texts=texts)
    assert exported.peer_difference == pytest.approx(0, abs=1e-4 * max(1.0, exported.scale))
    assert exported.texts.is_equal or not texts, exported.texts
