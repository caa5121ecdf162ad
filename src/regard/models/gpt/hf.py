"""How GPT-2 checkpoints name and lay out the weights of a `Gpt`.

Names and defaults are those of ``transformers`` (``modeling_gpt2``). A variant that `Gpt` does not
compute is refused by the field that asks for it: a model with other logits is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.errors import ConfigError
from regard.layers.feed_forward import Activation
from regard.models.base.checkpoint_format import Layout, Place, field_of, require_fields
from regard.models.gpt.model import GptConfig

_GPT2_ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
_GPT2_ONLY = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}


def _read_gpt2(fields: Mapping[str, Any]) -> GptConfig:
    """Read a ``config.json``; of its three dropout rates that of the sub-layers holds for all."""
    require_fields(fields, _GPT2_ONLY)
    activation = field_of(fields, "activation_function", "gelu_new")
    dim = field_of(fields, "n_embd", 768)
    return GptConfig(
        num_layers=field_of(fields, "n_layer", 12),
        dim=dim,
        num_heads=field_of(fields, "n_head", 12),
        hidden_dim=field_of(fields, "n_inner", 4 * dim),
        dropout=field_of(fields, "resid_pdrop", 0.1),
        norm_kind="layer",
        epsilon=field_of(fields, "layer_norm_epsilon", 1e-5),
        activation=_known("activation_function", activation, _GPT2_ACTIVATIONS),
        bias=True,
        positions="learned",
        max_positions=field_of(fields, "n_positions", 1024),
        tied=field_of(fields, "tie_word_embeddings", True),
    )


def _write_gpt2(config: GptConfig, vocab_size: int) -> dict[str, Any]:
    head_dim = config.dim // config.num_heads
    needs = {"positions": "learned", "norm_kind": "layer", "bias": True}
    _require("gpt2", config, needs | {"num_kv_heads": config.num_heads, "head_dim": head_dim})
    names = {ours: theirs for theirs, ours in reversed(_GPT2_ACTIVATIONS.items())}
    if config.activation not in names:
        raise ConfigError(
            f"activation={config.activation}: the layout gpt2 has {', '.join(names)} only."
        )
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocab_size,
        "n_layer": config.num_layers,
        "n_embd": config.dim,
        "n_head": config.num_heads,
        "n_inner": config.hidden_dim,
        "n_positions": config.max_positions,
        "activation_function": names[config.activation],
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
        "layer_norm_epsilon": config.epsilon,
        "tie_word_embeddings": config.tied,
    }


def _gpt2_places(config: GptConfig) -> list[Place]:
    places = _tables(config.tied, "transformer.wte.weight")
    places.append(Place("embedding.positions.weight", ("transformer.wpe.weight",)))
    maps = {
        "self_attention.query_key_value": "attn.c_attn",
        "self_attention.output": "attn.c_proj",
        "feed_forward.inner": "mlp.c_fc",
        "feed_forward.outer": "mlp.c_proj",
    }
    norms = {"attention_residual.norm": "ln_1", "feed_forward_residual.norm": "ln_2"}
    for layer in range(config.num_layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        for kind in ("weight", "bias"):
            places += [
                Place(f"{ours}.{a}.{kind}", (f"{theirs}.{b}.{kind}",), kind == "weight")
                for a, b in maps.items()
            ]
            places += [
                Place(f"{ours}.{a}.{kind}", (f"{theirs}.{b}.{kind}",)) for a, b in norms.items()
            ]
    last = [Place(f"norm.{kind}", (f"transformer.ln_f.{kind}",)) for kind in ("weight", "bias")]
    return places + last


def _tables(tied: bool, theirs: str) -> list[Place]:
    """List the tables of input and output; a tied one goes by the name of the input's."""
    if tied:
        return [Place("output_weight", (theirs,))]
    return [Place("embedding.weight", (theirs,)), Place("output_weight", ("lm_head.weight",))]


def _known(name: str, given: str, known: Mapping[str, Activation]) -> Activation:
    if given not in known:
        raise ConfigError(
            f"config.json: {name}={given}: no such variant here, known are {', '.join(known)}."
        )
    return known[given]


def _require(layout: str, config: GptConfig, needs: Mapping[str, Any]) -> None:
    """Refuse settings that a layout has no place for; None stands for what is usual."""
    for name, value in needs.items():
        given = getattr(config, name)
        if given is not None and given != value:
            raise ConfigError(
                f"{name}={str(given).lower()}: the layout {layout} has {str(value).lower()} only."
            )


PUBLISHED: dict[str, Layout] = {
    "gpt2": Layout(
        read=_read_gpt2,
        write=_write_gpt2,
        places=_gpt2_places,
        prefix="transformer.",
        ignored=(".attn.bias", ".attn.masked_bias"),
        twins={"lm_head.weight": "transformer.wte.weight"},
    ),
}
