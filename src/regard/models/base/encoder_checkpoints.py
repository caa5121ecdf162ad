"""What the published checkpoints of BERT, RoBERTa, DistilBERT, Longformer and others share.

Names of tensors, the fields of ``config.json`` in both directions, and the refusal of variants that
are not computed. The families' ``hf.py`` put them together as a `CheckpointFormat`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    FieldMapping,
    LabelHead,
    ParameterMapping,
    SettingError,
    field_of,
    map_blocks,
    map_layer,
    read_settings,
    require_fields,
    require_settings,
    write_settings,
)
from regard.models.base.encoder import INITIAL_STD, EncoderConfig

C = TypeVar("C", bound=EncoderConfig)

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
}
"""Activations by their names in published encoders, of which the first is written."""
ONLY_VARIANT = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
    "pruned_heads": {},
}
"""Fields of published encoders of which one value alone is computed."""
ONLY_SETTINGS = {
    "norm": "post",
    "pooler_activation": "tanh",
    "rotary_base": None,
    "embedding_dim": None,
}
"""Settings of which published encoders have one value alone."""
BLOCK_FIELDS = (
    FieldMapping("num_layers", "num_hidden_layers", 12),
    FieldMapping("dim", "hidden_size", 768),
    FieldMapping("num_heads", "num_attention_heads", 12),
    FieldMapping("hidden_dim", "intermediate_size", 3072),
    FieldMapping("activation", "hidden_act", "gelu", ACTIVATIONS),
    FieldMapping("epsilon", "layer_norm_eps", 1e-12),
)
"""Fields of the blocks in BERT, RoBERTa, Longformer and the Vision Transformer."""
_FIELDS = (
    *BLOCK_FIELDS,
    FieldMapping("dropout", "hidden_dropout_prob", 0.1),
    FieldMapping("num_segments", "type_vocab_size", 2),
)


class TensorNames(NamedTuple):
    """How one ``model_type`` names its tensors.

    Args:
        prefix: Prefix of all names but those of the head.
        blocks: Name of the stack of blocks.
        block: Published names of the layers of a block, by the names here; several are stacked.
        head: Names of the head's linear map, normalisation and bias.
        decoder: Name of the head's last linear map, which is the table of tokens, with that bias.
        label_head: Head of the classifiers built on it.
    """

    prefix: str
    blocks: str
    block: dict[str, tuple[str, ...]]
    head: tuple[str, str, str]
    decoder: str
    label_head: LabelHead


def map_encoder(config: EncoderConfig, *, names: TensorNames) -> list[ParameterMapping]:
    """Return the mapping of every parameter of a post-norm encoder with a configuration."""
    embeddings = f"{names.prefix}embeddings"
    mappings = [
        ParameterMapping("output_weight", (f"{embeddings}.word_embeddings.weight",)),
        ParameterMapping(
            "embedding.positions.weight", (f"{embeddings}.position_embeddings.weight",)
        ),
        *map_layer("embedding.norm", f"{embeddings}.LayerNorm"),
    ]
    if config.num_segments:
        table = f"{embeddings}.token_type_embeddings.weight"
        mappings.append(ParameterMapping("embedding.segments", (table,)))
    if config.embedding_dim is not None:
        mappings += map_layer("embedding.projection", f"{embeddings}_project")
    blocks = f"{names.prefix}{names.blocks}"
    mappings += map_blocks("blocks", blocks, config.num_layers, names.block)
    if config.has_mlm_head:
        dense, norm, bias = names.head
        mappings += [*map_layer("head.dense", dense), *map_layer("head.norm", norm)]
        mappings.append(ParameterMapping("head.bias", (bias,)))
    if config.has_pooler:
        mappings += map_layer("pooler", f"{names.prefix}pooler.dense")
    return mappings


def read_encoder(fields: Mapping[str, Any], *, pad_id: int, has_offset: bool) -> dict[str, Any]:
    """Read the fields of ``config.json`` that BERT, RoBERTa and Longformer share.

    Args:
        fields: All values.
        pad_id: Default of the padding token.
        has_offset: Whether positions begin after `pad_id`, as RoBERTa's do.

    Returns:
        Values of `EncoderConfig`, by name.

    Raises:
        ConfigError: A field asks for a variant that is not computed.
    """
    require_fields(fields, ONLY_VARIANT)
    values = read_settings(fields, _FIELDS)
    pad_id = field_of(fields, "pad_token_id", pad_id)
    offset = pad_id + 1 if has_offset else 0
    return values | {
        "max_positions": field_of(fields, "max_position_embeddings", 512) - offset,
        "position_offset": offset,
        "pad_id": pad_id,
        # RoBERTa and Longformer have gelu in the head whatever the blocks have.
        "head_activation": "gelu" if has_offset else values["activation"],
        "has_pooler": True,
    }


def write_encoder(
    config: EncoderConfig,
    vocab_size: int,
    architecture: str,
    only: Mapping[str, Any],
    *,
    model_type: str | None = None,
) -> dict[str, Any]:
    """Return the fields of ``config.json`` that BERT, RoBERTa and Longformer share.

    Args:
        config: Configuration of the model.
        vocab_size: Number of token ids.
        architecture: The model's name in `transformers`, such as ``Bert``.
        only: The one value that the format has for some settings.
        model_type: Its name in ``config.json``; None is `architecture` in small letters.

    Returns:
        The values of the fields, by name.

    Raises:
        ConfigError: The format cannot express the model.
        SettingError: The model has no segments.
    """
    model_type = model_type or architecture.lower()
    kind = f"{model_type} checkpoints"
    fields = write_settings(config, _FIELDS, kind=kind)
    require_settings(config, {**ONLY_SETTINGS, **only}, kind=kind)
    if not config.num_segments:
        raise SettingError([f"model.num_segments=0: {kind} have 1 or more."], {"num_segments": 2})
    return {
        **fields,
        "model_type": model_type,
        "architectures": [architecture + ("ForMaskedLM" if config.has_mlm_head else "Model")],
        "vocab_size": vocab_size,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": config.position_offset + config.max_positions,
        "pad_token_id": config.pad_id,
        "initializer_range": INITIAL_STD,
        "tie_word_embeddings": True,
    }


def encoder_format(
    model_type: str,
    read: Callable[[Mapping[str, Any]], Any],
    write: Callable[[Any, int], dict[str, Any]],
    names: TensorNames,
    *,
    map_parameters: Callable[[Any], list[ParameterMapping]] | None = None,
    tokenizer_class: str,
    ignored: tuple[str, ...] = (),
    reads_segments: bool = False,
    has_global_questions: bool = False,
) -> CheckpointFormat:
    """Build the checkpoint format of an encoder.

    Args:
        model_type: Passed to `CheckpointFormat`.
        read: Passed to `CheckpointFormat`.
        write: Passed to `CheckpointFormat`.
        names: Names of the tensors.
        map_parameters: Passed to `CheckpointFormat`; None is `map_encoder`.
        tokenizer_class: Passed to `CheckpointFormat`.
        ignored: Endings of names of layers that no model here has, next to those of BERT.
        reads_segments: Passed to `CheckpointFormat`.
        has_global_questions: Passed to `CheckpointFormat`.

    Returns:
        The format.
    """
    return CheckpointFormat(
        model_type,
        read,
        write,
        map_parameters or partial(map_encoder, names=names),
        prefix=names.prefix,
        ignored=(
            "position_ids",
            "token_type_ids",
            # Next-sentence prediction: trained, but of no use to any model here.
            "cls.seq_relationship.weight",
            "cls.seq_relationship.bias",
            *ignored,
        ),
        adapt=partial(_drop_missing_heads, names=names),
        renamed=(("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")),
        tied_names={
            names.decoder + ".weight": names.prefix + "embeddings.word_embeddings.weight",
            names.decoder + ".bias": names.head[2],
        },
        label_head=names.label_head,
        tokenizer_class=tokenizer_class,
        reads_segments=reads_segments,
        has_global_questions=has_global_questions,
    )


def _drop_missing_heads(config: C, tensor_names: Set[str], *, names: TensorNames) -> C:
    """Leave out the head and the pooler where a file, bare or not, has no tensors of them."""
    return msgspec.structs.replace(
        config,
        has_mlm_head=any(name.startswith(names.head) for name in tensor_names),
        has_pooler=any(name.endswith("pooler.dense.weight") for name in tensor_names),
    )
