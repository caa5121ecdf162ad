"""T5, mT5 and umT5 checkpoints: equal logits in both directions, odd files, refusals."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.published_translators import (
    assert_not_read,
    both_logits,
    imported,
)
from tests.models.published_weights import assert_near, padded_ids, spread

from regard.errors import ConfigError, WeightsError
from regard.hub.hugging_face.published_folder import read_hugging_face, write_hugging_face
from regard.models import CHECKPOINT_FORMATS, T5, T5Config

VOCAB = 31
CLASSES = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}
SIZES = T5Config(
    num_encoder_layers=2,
    num_decoder_layers=3,
    dim=12,
    num_heads=2,
    head_dim=5,
    hidden_dim=16,
    num_buckets=8,
    max_distance=9,
    pad_id=0,
    start_id=0,
)
GATED = {"activation": "geglu_tanh", "tied": "inputs", "has_output_scale": False}
CONFIGS = {
    "t5": SIZES,
    "t5 v1.1": msgspec.structs.replace(SIZES, **GATED),
    "mt5": msgspec.structs.replace(SIZES, **GATED),
    "umt5": msgspec.structs.replace(SIZES, **GATED, shares_buckets=False),
}


def format_of(kind: str):
    return CHECKPOINT_FORMATS[kind.split()[0]]


@pytest.fixture(scope="module")
def transformers(transformers):
    parts = ("Config", "ForConditionalGeneration", "Model", "EncoderModel")
    names = [f"{name}{part}" for name in CLASSES.values() for part in parts]
    return imported(transformers, "AutoModelForSeq2SeqLM", *names)


def read(folder) -> T5:
    published = read_hugging_face(folder)
    model = T5(published.config, published.vocab_size).eval()
    published.load_into(model)
    return model


def drawn(kind: str, **changes) -> T5:
    torch.manual_seed(1)
    model = T5(msgspec.structs.replace(CONFIGS[kind], **changes), VOCAB).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def write(folder, model: T5, kind: str) -> dict[str, torch.Tensor]:
    write_hugging_face(folder, model, model.config, format_of(kind), VOCAB)
    return load_file(folder / "model.safetensors")


def rewrite(folder, tensors, **fields: Any) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    path = folder / "config.json"
    content = json.loads(path.read_text()) | fields
    content = {name: value for name, value in content.items() if value is not None}
    path.write_text(json.dumps(content))


def drawn_ids() -> tuple[torch.Tensor, torch.Tensor]:
    """Draw sources longer than the last bucket, padded, and targets that begin with padding."""
    target = padded_ids(VOCAB, (14, 14, 14), 0)
    target[:, 0] = 0
    return padded_ids(VOCAB, (40, 9, 1), 0), target


def assert_equal_models(ours: T5, theirs: Any) -> None:
    found, wanted = both_logits(ours, theirs, drawn_ids())
    assert_near(found, wanted, torch.zeros(found.shape[:2]), pad_id=1)


def peer_fields(seed: int, kind: str) -> dict[str, Any]:
    draw = random.Random(seed)
    is_first = kind == "t5"
    gated = ("gated-gelu", "gated-silu")
    return {
        "vocab_size": VOCAB,
        "d_model": draw.choice([8, 12]),
        "d_kv": draw.choice([4, 5]),
        "d_ff": 20,
        "num_layers": draw.choice([1, 2, 3]),
        "num_decoder_layers": draw.choice([None, 1, 2]),
        "num_heads": draw.choice([1, 3]),
        "relative_attention_num_buckets": draw.choice([8, 32]),
        "feed_forward_proj": draw.choice(("relu", "gelu", "gelu_new") if is_first else gated),
        "tie_word_embeddings": is_first,
        "decoder_start_token_id": 0,
    }


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_published_model_has_its_logits_here(kind, seed, tmp_path, transformers):
    name = CLASSES[kind.split()[0]]
    config = getattr(transformers, f"{name}Config")(**peer_fields(seed, kind))
    theirs = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    if kind != "t5":
        theirs.lm_head.weight = torch.nn.Parameter(theirs.lm_head.weight.detach().clone())
    spread(theirs, gain=1.2)
    theirs.save_pretrained(tmp_path)
    ours = read(tmp_path)
    assert ours.config.tied == ("all" if kind == "t5" else "inputs")
    assert_equal_models(ours, theirs)


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_exported_model_has_its_logits_in_transformers(kind, tmp_path, transformers):
    ours = drawn(kind)
    write(tmp_path, ours, kind)
    theirs, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(report[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(theirs).__name__ == f"{CLASSES[kind.split()[0]]}ForConditionalGeneration"
    assert_equal_models(ours, theirs.eval())


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("changes", [{}, {"activation": "swiglu"}, {"tied": "all"}], ids=str)
def test_what_is_exported_comes_back_exactly(kind, changes, tmp_path):
    ours = drawn(kind, **changes)
    write(tmp_path, ours, kind)
    again = read(tmp_path)
    assert again.config == msgspec.structs.replace(ours.config, dropout=again.config.dropout)
    assert torch.equal(again(*drawn_ids()), ours(*drawn_ids()))


def test_repeated_and_unread_tables_of_old_files_are_left_alone(tmp_path):
    ours = drawn("t5")
    tensors = write(tmp_path, ours, "t5")
    for name in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head"):
        tensors[f"{name}.weight"] = tensors["shared.weight"].clone()
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    unread = {name: torch.randn(8, 2)}
    rewrite(tmp_path, tensors | unread, architectures=["T5WithLMHeadModel"])
    assert torch.equal(read(tmp_path)(*drawn_ids()), ours(*drawn_ids()))


def test_an_output_that_differs_from_the_table_it_is_tied_to_is_refused(tmp_path):
    tensors = write(tmp_path, drawn("t5"), "t5")
    rewrite(tmp_path, tensors | {"lm_head.weight": tensors["shared.weight"] + 1})
    with pytest.raises(WeightsError, match=r"lm_head\.weight differs from shared\.weight"):
        read(tmp_path)


def test_an_output_without_a_table_of_its_own_takes_the_shared_one(tmp_path, transformers):
    tensors = write(tmp_path, drawn("t5 v1.1"), "t5")
    del tensors["lm_head.weight"]
    rewrite(tmp_path, tensors, scale_decoder_outputs=None)
    ours = read(tmp_path)
    assert (ours.config.tied, ours.config.has_output_scale) == ("all", False)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert_equal_models(ours, theirs)


def test_files_of_version_5_say_by_a_field_of_their_own_that_nothing_is_scaled(tmp_path):
    ours = drawn("t5 v1.1")
    tensors = write(tmp_path, ours, "t5")
    rewrite(tmp_path, tensors, tie_word_embeddings=True, scale_decoder_outputs=False)
    assert read(tmp_path).config == ours.config


def test_empty_files_are_the_defaults_of_transformers(transformers):
    for kind, name in CLASSES.items():
        theirs = getattr(transformers, f"{name}Config")()
        config = CHECKPOINT_FORMATS[kind].read({})
        assert config == CHECKPOINT_FORMATS[kind].read(theirs.to_dict())
        assert (config.dim, config.max_distance) == (512, 128)
        assert config.num_decoder_layers == theirs.num_decoder_layers == theirs.num_layers
        assert config.start_id == config.pad_id == 0


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            "t5",
            {"architectures": ["T5EncoderModel"]},
            "config.json: architectures=T5EncoderModel: gives the states of the encoder alone, and "
            "only T5ForConditionalGeneration, which writes texts, is computed.",
        ),
        (
            "mt5",
            {"feed_forward_proj": "gated-relu"},
            "config.json: feed_forward_proj=gated-relu: no such variant here, known are relu, "
            "gated-gelu, gated-gelu_new, gated-gelu_pytorch_tanh, gated-silu, gelu, gelu_new, "
            "silu.",
        ),
        (
            "t5",
            {"is_decoder": True},
            "config.json: is_decoder=true: no such variant here, is_decoder=false alone is "
            "computed.",
        ),
    ],
)
def test_a_variant_that_is_not_computed_is_refused_by_its_field(kind, fields, message):
    assert_not_read(CHECKPOINT_FORMATS[kind], fields, message)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("t5", {"tied": "inputs"}, "model.tied=inputs: t5 checkpoints have all only."),
        ("t5", {"shares_buckets": False}, "model.shares_buckets=false: t5 checkpoints have true"),
        ("umt5", {}, "model.shares_buckets=true: umt5 checkpoints have false only."),
        ("mt5", {}, "model.has_output_scale=true: mt5 checkpoints have false only."),
    ],
)
def test_what_a_format_has_no_field_for_is_not_written(kind, changes, message):
    config = msgspec.structs.replace(SIZES, **changes)
    with pytest.raises(ConfigError) as caught:
        CHECKPOINT_FORMATS[kind].write(config, VOCAB)
    assert str(caught.value).startswith(message)
