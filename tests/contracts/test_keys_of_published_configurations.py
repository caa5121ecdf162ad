"""Every key of a published ``config.json`` that changes what is computed is obeyed or refused.

The keys are those of the classes of `transformers`, one after the other with another value than its
default; a format that is registered is tested as soon as it is.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.published_weights import spread
from torch import Tensor, nn

from regard.hub.hugging_face.published_folder import read_hugging_face
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    CHECKPOINT_FORMATS,
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    INPUT_CHECKPOINT_FORMATS,
    make_model,
)
from regard.models.base.checkpoint_format import CheckpointFormat
from regard.models.vit.model import Vit, VitConfig

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "dim", "n_embd", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "d_ff", "ffn_dim", "n_inner"), 24),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 24),
    **dict.fromkeys(("vocab_size", "decoder_vocab_size"), 40),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 32),
    **dict.fromkeys(("sliding_window", "window_size", "local_attention"), 4),
    **{
        "head_dim": 8,
        "d_kv": 8,
        "attention_window": 8,
        "num_key_value_heads": 2,
        "query_pre_attn_scalar": 4,
    },
    **{"embedding_size": 12, "image_size": 8, "patch_size": 4, "max_window_layers": 1},
    **{"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "sep_token_id": 2},
    **{"cls_token_id": 0, "mask_token_id": 3, "decoder_start_token_id": 2},
    "attention_types": [[["global", "local"], 1]],
    "forced_eos_token_id": None,
}
# They say what the outputs look like, or what the shapes of the weights say, too.
LEFT_OUT = {"transformers_version", "architectures", "return_dict", "id2label", "label2id", "dtype"}
LEFT_OUT |= {"vocab_size", "decoder_vocab_size", "max_position_embeddings"}


def class_of(transformers: Any, model_type: str) -> Any:
    """Return the class of a format whose head is in all of them."""
    config = transformers.CONFIG_MAPPING[model_type]
    if model_type in INPUT_CHECKPOINT_FORMATS:
        return config, transformers.AutoModelForImageClassification
    formats = {
        transformers.AutoModelForCausalLM: DECODERS,
        transformers.AutoModelForMaskedLM: ENCODERS,
        transformers.AutoModelForSeq2SeqLM: ENCODER_DECODERS,
    }
    kind = next(
        kind
        for kind, families in formats.items()
        if any(model_type in family.format_names for family in families.values())
    )
    return config, kind


def other_values(name: str, field: dataclasses.Field[Any]) -> list[Any]:
    """Return values of a key that are not its default, which the model of these tests has."""
    usual = SIZES.get(name, None if field.default is dataclasses.MISSING else field.default)
    if isinstance(usual, bool):
        return [not usual]
    if isinstance(usual, int):
        return [max(1, usual // 2), usual + 1]
    if isinstance(usual, float):
        return [2 * usual + 0.25]
    if isinstance(usual, str):
        is_activation = "act" in name or name == "feed_forward_proj"
        return ["relu", "silu", "gated-silu"] if is_activation else ["mean", "float16"]
    return [kind(3) for kind in (int, bool, float) if kind.__name__ in str(field.type)][:2]


def inputs_of(theirs: nn.Module) -> dict[str, Tensor]:
    """Draw inputs without special tokens, but for the one that begins a target."""
    generator = torch.Generator().manual_seed(1)
    config: Any = theirs.config
    if hasattr(config, "image_size"):
        return {"pixel_values": torch.randn(2, 3, 8, 8, generator=generator)}
    ids = torch.randint(8, 40, (2, 14), generator=generator)
    if not hasattr(theirs, "get_decoder") or not config.is_encoder_decoder:
        return {"input_ids": ids}
    return {"input_ids": ids, "decoder_input_ids": ids[:, :9].flip(0)}


def our_model(config: Any, vocab_size: int = 40) -> nn.Module:
    """Return our model of a configuration."""
    if isinstance(config, VitConfig):
        return Vit(config, AttentionConfig())
    return make_model(config, vocab_size, AttentionConfig())


@torch.no_grad()
def our_logits(folder: Path, inputs: dict[str, Tensor]) -> Tensor:
    """Return the logits of a folder by our model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        published = read_hugging_face(folder)
    model = our_model(published.config, published.vocab_size)
    published.load_into(model)
    return model.eval()(*inputs.values())


def sort_keys(
    config_class: Any, sizes: dict[str, Any], folder: Path, checkpoint_format: CheckpointFormat
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return values of keys that change nothing here, and of those that do.

    Values that are refused here or by `transformers`, and those of other shapes, are left out.
    """
    fields = json.loads((folder / "config.json").read_text())
    usual, shapes = checkpoint_format.read(fields), shapes_of(checkpoint_format, fields)
    ignored: dict[str, Any] = {}
    obeyed: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        for value in () if field.name in LEFT_OUT else other_values(field.name, field):
            try:
                config_class(**copy.deepcopy(sizes) | {field.name: value})
            except Exception:  # noqa: BLE001 - of any kind
                continue
            try:
                changed = checkpoint_format.read(fields | {field.name: value})
            except ValueError:  # a refusal
                continue
            if changed == usual:
                ignored[field.name] = value
            elif shapes_of(checkpoint_format, fields | {field.name: value}) == shapes:
                obeyed[field.name] = value
    return ignored, obeyed


def shapes_of(checkpoint_format: CheckpointFormat, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes of the parameters of our model."""
    with torch.device("meta"):
        return {n: p.shape for n, p in our_model(checkpoint_format.read(fields)).named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [*CHECKPOINT_FORMATS, *INPUT_CHECKPOINT_FORMATS])
@torch.no_grad()
def test_a_key_that_changes_the_logits_is_obeyed_or_refused(model_type, transformers, tmp_path):
    config_class, model_class = class_of(transformers, model_type)
    names = {field.name for field in dataclasses.fields(config_class)}
    sizes = {name: value for name, value in SIZES.items() if name in names}
    base = model_class.from_config(config_class(**sizes), attn_implementation="eager").eval()
    spread(base)
    base.save_pretrained(tmp_path)
    inputs = inputs_of(base)
    expected = base(**inputs).logits
    checkpoint_format = (CHECKPOINT_FORMATS | INPUT_CHECKPOINT_FORMATS)[model_type]
    ignored, obeyed = sort_keys(config_class, sizes, tmp_path, checkpoint_format)
    assert ignored
    assert obeyed
    for changes in ({}, ignored, obeyed):
        config = config_class(**copy.deepcopy(sizes) | changes)
        theirs = model_class.from_config(config, attn_implementation="eager").eval()
        theirs.load_state_dict(base.state_dict())
        logits, name = theirs(**inputs).logits, ", ".join(changes)
        assert is_near(logits, expected) == (changes is not obeyed), name
        theirs.save_pretrained(tmp_path)
        assert is_near(our_logits(tmp_path, inputs), logits), name


def is_near(ours: Tensor, theirs: Tensor) -> bool:
    """Return whether logits are equal, by the standard deviation of theirs."""
    return bool((ours - theirs).abs().max() < 2e-4 * theirs.std())
