"""What the published checkpoints of BERT, RoBERTa, DistilBERT and Longformer have in common.

Names of tensors, the fields of ``config.json`` both ways, and the refusal of what is not computed.
The families' own files put them together as `Layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import LabelHead, Layout, Place, field_of, require_fields
from regard.models.base.encoder import INITIAL_STD, EncoderConfig


class Names(NamedTuple):
    """How one ``model_type`` names its tensors.

    Args:
        prefix: Of all but the head's.
        layer: Of the layers, without their number.
        query_key_value: The three maps that ours stacks, within a layer.
        block: Of the other maps and normalisations of a layer, by our names.
        head: Of the head's map and normalisation, and of its bias.
        decoder: Of the head's last map, which is the table of tokens, with that bias.
        labels: Of the classifiers made of it.
    """

    prefix: str
    layer: str
    query_key_value: tuple[str, str, str]
    block: dict[str, str]
    head: tuple[str, str, str]
    decoder: str
    labels: LabelHead


def encoder_places(config: EncoderConfig, *, names: Names) -> list[Place]:
    """List where every parameter of a post-norm encoder stands.

    Args:
        config: Of the model.
        names: Of the published tensors.
    """
    prefix = names.prefix
    places = [
        Place("output_weight", (f"{prefix}embeddings.word_embeddings.weight",)),
        Place("embedding.positions.weight", (f"{prefix}embeddings.position_embeddings.weight",)),
        *pair_of("embedding.norm", f"{prefix}embeddings.LayerNorm"),
    ]
    if config.num_segments:
        theirs = f"{prefix}embeddings.token_type_embeddings.weight"
        places.append(Place("embedding.segments", (theirs,)))
    for number in range(config.num_layers):
        ours, theirs = f"blocks.{number}", f"{prefix}{names.layer}.{number}"
        stacked = [f"{theirs}.{name}" for name in names.query_key_value]
        places += pair_of(f"{ours}.self_attention.query_key_value", *stacked)
        for part, name in names.block.items():
            places += pair_of(f"{ours}.{part}", f"{theirs}.{name}")
    if config.has_mlm_head:
        dense, norm, bias = names.head
        places += [*pair_of("head.dense", dense), *pair_of("head.norm", norm)]
        places.append(Place("head.bias", (bias,)))
    if config.has_pooler:
        places += pair_of("pooler", f"{prefix}pooler.dense")
    return places


def pair_of(ours: str, *theirs: str) -> list[Place]:
    """Tell where the weight and the bias of a map or normalisation stand."""
    return [
        Place(f"{ours}.{kind}", tuple(f"{name}.{kind}" for name in theirs))
        for kind in ("weight", "bias")
    ]


C = TypeVar("C", bound=EncoderConfig)


def adapt_parts(config: C, tensor_names: Set[str], *, names: Names) -> C:
    """Leave out the head and the pooler where a file holds nothing of them.

    Args:
        config: As `read` gave it.
        tensor_names: Of all tensors of the file, with the prefix or without.
        names: Of the published tensors.
    """
    return msgspec.structs.replace(
        config,
        has_mlm_head=any(name.startswith(names.head) for name in tensor_names),
        has_pooler=any(name.endswith("pooler.dense.weight") for name in tensor_names),
    )


# What `transformers` calls the activations that it shares with us.
ACTIVATION_NAMES = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
}
# Variants of published encoders that no model here computes.
ONLY = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
    "pruned_heads": {},
}


def activation_of(fields: Mapping[str, Any], name: str) -> str:
    """Read an activation.

    Raises:
        ConfigError: It is none that is computed here.
    """
    given = field_of(fields, name, "gelu")
    if given not in ACTIVATION_NAMES:
        known = ", ".join(ACTIVATION_NAMES)
        raise ConfigError(f"config.json: {name}={given!r} is not computed.  Known: {known}.")
    return ACTIVATION_NAMES[given]


def encoder_values(fields: Mapping[str, Any], *, pad_id: int, has_offset: bool) -> dict[str, Any]:
    """Read what BERT, RoBERTa and Longformer name alike in ``config.json``.

    Args:
        fields: All values.
        pad_id: Where the file tells none.
        has_offset: Whether positions begin after `pad_id`, as RoBERTa's do.

    Returns:
        Values of `EncoderConfig`, by name.
    """
    require_fields(fields, ONLY)
    pad_id = field_of(fields, "pad_token_id", pad_id)
    offset = pad_id + 1 if has_offset else 0
    activation = activation_of(fields, "hidden_act")
    return {
        "num_layers": field_of(fields, "num_hidden_layers", 12),
        "dim": field_of(fields, "hidden_size", 768),
        "num_heads": field_of(fields, "num_attention_heads", 12),
        "hidden_dim": field_of(fields, "intermediate_size", 3072),
        "dropout": field_of(fields, "hidden_dropout_prob", 0.1),
        "activation": activation,
        "epsilon": field_of(fields, "layer_norm_eps", 1e-12),
        "max_positions": field_of(fields, "max_position_embeddings", 512) - offset,
        "position_offset": offset,
        "num_segments": field_of(fields, "type_vocab_size", 2),
        "pad_id": pad_id,
        # RoBERTa and Longformer have gelu in the head whatever the layers have.
        "head_activation": "gelu" if has_offset else activation,
        "has_pooler": True,
    }


def encoder_fields(config: EncoderConfig, vocab_size: int, architecture: str) -> dict[str, Any]:
    """Write what BERT, RoBERTa and Longformer name alike in ``config.json``.

    Args:
        config: Of the model.
        vocab_size: Number of token ids.
        architecture: The model's name in `transformers`, such as ``Bert``.

    Raises:
        ConfigError: The layout has no place for the model.
    """
    model_type = architecture.lower()
    if not config.num_segments:
        raise ConfigError(
            f"model.num_segments=0: the layout {model_type} of transformers has 1 or more."
        )
    return {
        "model_type": model_type,
        "architectures": [architecture + ("ForMaskedLM" if config.has_mlm_head else "Model")],
        "vocab_size": vocab_size,
        "num_hidden_layers": config.num_layers,
        "hidden_size": config.dim,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.hidden_dim,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": published_activation(config.activation),
        "layer_norm_eps": config.epsilon,
        "max_position_embeddings": config.position_offset + config.max_positions,
        "type_vocab_size": config.num_segments,
        "pad_token_id": config.pad_id,
        "initializer_range": INITIAL_STD,
        "tie_word_embeddings": True,
    }


def published_activation(activation: str) -> str:
    """Name an activation as `transformers` does."""
    return "gelu_pytorch_tanh" if activation == "gelu_tanh" else activation


def require_alike(model_type: str, config: EncoderConfig, wanted: Mapping[str, Any]) -> None:
    """Refuse to write a configuration that a published layout has no place for.

    Args:
        model_type: The layout.
        config: The configuration.
        wanted: Fields with the only value that the layout has.

    Raises:
        ConfigError: With the first field that differs.
    """
    for name, only in {"norm": "post", "pooler_activation": "tanh", **wanted}.items():
        if (given := getattr(config, name)) != only:
            raise ConfigError(
                f"model.{name}={given}: the layout {model_type} of transformers has {only} only."
            )
    if config.activation == "swiglu":
        raise ConfigError(
            f"model.activation=swiglu: the layout {model_type} of transformers has none gated."
        )


def encoder_layout(
    read: Callable[[Mapping[str, Any]], Any],
    write: Callable[[Any, int], dict[str, Any]],
    names: Names,
    *,
    places: Callable[[Any], list[Place]] | None = None,
) -> Layout:
    """Make the layout of an encoder.

    Args:
        read: As in `Layout`.
        write: As in `Layout`.
        names: Of the tensors.
        places: As in `Layout`; None for those of `encoder_places`.
    """
    return Layout(
        read=read,
        write=write,
        places=places or partial(encoder_places, names=names),
        prefix=names.prefix,
        ignored=(
            "position_ids",
            "token_type_ids",
            # Next-sentence prediction: trained, but of no use to any model here.
            "cls.seq_relationship.weight",
            "cls.seq_relationship.bias",
        ),
        adapt=partial(adapt_parts, names=names),
        renamed=(("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")),
        twins={
            names.decoder + ".weight": names.prefix + "embeddings.word_embeddings.weight",
            names.decoder + ".bias": names.head[2],
        },
        labels=names.labels,
    )
