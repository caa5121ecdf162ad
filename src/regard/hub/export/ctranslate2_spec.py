"""The weights of a Transformer as a specification of CTranslate2, which computes the same numbers.

CTranslate2 (Klein et al. 2020) has pre-norm, post-norm and parallel blocks, norms before and after
a sub-layer, layer and RMS norms, plain and gated feed-forward networks, rotary positions, tables of
positions and biases by distance, and heads that share keys and values: all of `Transformer`,
`TransformerDecoder`, `T5` and `Gpt` but copies, roles, bounds of scores, windows and other
patterns. Every projection of queries, keys and values is stacked there in the order that it has
here. Cost: the weights are held once more, in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regard.attention import DotProduct
from regard.layers.embedding import TokenEmbedding
from regard.layers.feed_forward import GATED, Activation, FeedForward
from regard.layers.linear import Linear
from regard.layers.multi_head_attention import CrossAttention, SelfAttention
from regard.layers.norm import LayerNorm, RMSNorm
from regard.layers.positions import LearnedPositions
from regard.layers.rotary_scaling import LinearScaling
from regard.layers.transformer_block import (
    BlockConfig,
    DecoderBlock,
    ParallelBlock,
    TransformerBlock,
)
from regard.models import T5, Gpt, GptConfig, T5Config, Transformer, TransformerDecoder

_ACTIVATIONS: dict[Activation, str] = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_tanh": "GELUTanh",
    "silu": "SWISH",
    "swiglu": "SWISH",
    "geglu": "GELU",
    "geglu_tanh": "GELUTanh",
}
"""Names of the activations in CTranslate2."""


def translator_spec(specs: Any, model: Transformer | T5, num_positions: int) -> Any:
    """Return the specification of an encoder-decoder.

    Args:
        specs: The module ``ctranslate2.specs``.
        model: A model that CTranslate2 can compute.
        num_positions: Rows of the tables of positions at least, which have no end here.

    Returns:
        A ``TransformerSpec`` without a vocabulary.
    """
    config = model.config
    block = config.block() if isinstance(config, T5Config) else config.block(1)
    options = _options(specs, block)
    options["relative_attention_bias"] = isinstance(model, T5)
    has_norm = not isinstance(config, T5Config) and config.has_embedding_norm
    encoder = specs.TransformerEncoderSpec(
        len(model.encoder), layernorm_embedding=has_norm, **options
    )
    decoder = specs.TransformerDecoderSpec(
        len(model.decoder),
        layernorm_embedding=has_norm,
        # As in `align`: the mean of the heads of the last layer but one.
        alignment_layer=-min(2, len(model.decoder)),
        alignment_heads=config.num_heads,
        **options,
    )
    _fill_embedding(encoder, model.source_embedding, num_positions)
    for layer, of_model in zip(encoder.layer, model.encoder, strict=True):
        assert isinstance(of_model, TransformerBlock)
        _fill_block(layer, of_model)
    _fill_last_norm(encoder, model.encoder_norm)
    _fill_embedding(decoder, model.target_embedding, num_positions)
    for layer, of_model in zip(decoder.layer, model.decoder_blocks, strict=True):
        _fill_decoder_block(layer, of_model)
    _fill_last_norm(decoder, model.decoder_norm)
    _fill_output(decoder, model)
    if isinstance(model, T5) and model.output_scale != 1:
        decoder.scale_outputs = model.output_scale
    spec = specs.TransformerSpec(encoder, decoder)
    spec.config.layer_norm_epsilon = block.epsilon
    return spec


def generator_spec(specs: Any, model: TransformerDecoder | Gpt, num_positions: int) -> Any:
    """Return the specification of a language model.

    Args:
        specs: The module ``ctranslate2.specs``.
        model: A model that CTranslate2 can compute.
        num_positions: Rows of a table of sinusoids, which has no end here.

    Returns:
        A ``TransformerDecoderModelSpec`` without a vocabulary.
    """
    config = model.config
    block = config.block() if isinstance(config, GptConfig) else config.block(1)
    decoder = specs.TransformerDecoderSpec(
        len(model.blocks),
        with_encoder_attention=False,
        layernorm_embedding=model.embedding.norm is not None,
        parallel_residual=block.parallel_residual,
        **_options(specs, block),
    )
    _fill_embedding(decoder, model.embedding, model.num_positions or num_positions)
    for layer, of_model in zip(decoder.layer, model.blocks, strict=True):
        assert isinstance(of_model, TransformerBlock)
        _fill_block(layer, of_model)
    _fill_last_norm(decoder, model.norm)
    _fill_output(decoder, model)
    if isinstance(config, GptConfig) and config.logit_soft_cap is not None:
        decoder.final_logit_softcapping = config.logit_soft_cap
    spec = specs.TransformerDecoderModelSpec(decoder)
    spec.config.layer_norm_epsilon = block.epsilon
    return spec


def _options(specs: Any, block: BlockConfig) -> dict[str, Any]:
    """Return the options by which encoder and decoder of CTranslate2 have a block's layers."""
    options: dict[str, Any] = {
        "num_heads": block.num_heads,
        "pre_norm": block.norm != "post",
        "pre_post_layer_norm": block.norm == "sandwich",
        "activation": getattr(specs.Activation, _ACTIVATIONS[block.activation]),
        "ffn_glu": block.activation in GATED,
        "rms_norm": block.norm_kind != "layer",
    }
    size_of_head = block.head_dim or block.dim // block.num_heads
    if block.rotary_base is not None:
        options |= {
            "rotary_dim": int(size_of_head * block.rotary_fraction),
            "rotary_interleave": False,
            "rotary_base": block.rotary_base,
        }
    if isinstance(block.rotary_scaling, LinearScaling):
        options["rotary_scaling_type"] = specs.RotaryScalingType.Linear
    if block.num_kv_heads not in (None, block.num_heads):
        options["num_heads_kv"] = block.num_kv_heads
    if block.head_dim is not None:
        options["head_dim"] = block.head_dim
    if block.qk_norm:
        options["qk_norm"] = True
    return options


def _fill_embedding(spec: Any, embedding: TokenEmbedding, num_positions: int) -> None:
    """Fill embeddings; a table of sinusoids, or of learned positions, gets rows past its end."""
    tables = spec.embeddings  # an encoder has a list, for features of tokens
    (tables[0] if isinstance(tables, list) else tables).weight = _float(embedding.weight)
    spec.scale_embeddings = float(embedding.scale)
    positions = embedding.positions
    if positions is not None:
        if isinstance(positions, LearnedPositions):
            num_positions = max(num_positions, positions.num_positions)
        spec.position_encodings.encodings = _float(positions(0, num_positions))
    if embedding.norm is not None:
        _fill_norm(spec.layernorm_embedding, embedding.norm)


def _fill_block(spec: Any, block: TransformerBlock) -> None:
    assert isinstance(block.self_attention, SelfAttention)
    residuals = block.attention_residual, block.feed_forward_residual
    # A parallel block, or one with norms of outputs, has its norms next to its sub-layers.
    if isinstance(block, ParallelBlock):
        norms = spec.input_layer_norm, spec.post_attention_layer_norm
    elif residuals[0].output_norm is not None:
        norms = spec.input_layer_norm, spec.pre_feedforward_layer_norm
    else:
        norms = spec.self_attention.layer_norm, spec.ffn.layer_norm
    for norm_spec, residual in zip(norms, residuals, strict=True):
        _fill_norm(norm_spec, residual.norm)
    for name, residual in zip(("attention", "feedforward"), residuals, strict=True):
        if residual.output_norm is not None:
            _fill_norm(getattr(spec, f"post_{name}_layer_norm"), residual.output_norm)
    _fill_self_attention(spec.self_attention, block.self_attention)
    _fill_feed_forward(spec.ffn, block.feed_forward)


def _fill_decoder_block(spec: Any, block: DecoderBlock) -> None:
    assert isinstance(block.self_attention, SelfAttention)
    _fill_norm(spec.self_attention.layer_norm, block.self_residual.norm)
    _fill_self_attention(spec.self_attention, block.self_attention)
    attention = block.cross_attention
    _fill_norm(spec.attention.layer_norm, block.cross_residual.norm)
    _fill_scale(spec.attention, attention)
    layers = (attention.query, attention.key_value, attention.output)
    for linear, layer in zip(spec.attention.linear, layers, strict=True):
        _fill_linear(linear, layer)
    _fill_norm(spec.ffn.layer_norm, block.feed_forward_residual.norm)
    _fill_feed_forward(spec.ffn, block.feed_forward)


def _fill_self_attention(spec: Any, attention: SelfAttention) -> None:
    _fill_scale(spec, attention)
    if (rotary := attention.rotary) is not None:  # layers with a window may have their own
        spec.rotary_base = np.float32(rotary.base)
        if hasattr(spec, "rotary_scaling_factor"):
            spec.rotary_scaling_factor = np.float32(getattr(rotary.scaling, "factor", 1.0))
    if (bias := attention.position_bias) is not None:
        spec.relative_attention_bias = _float(bias.weight.T)  # [buckets, heads]
        spec.relative_attention_max_distance = np.int32(bias.max_distance)
    if attention.is_grouped:
        _fill_linear(spec.linear[0], attention.query, attention.key_value)
    else:
        _fill_linear(spec.linear[0], attention.query_key_value)
    for norm_spec, head_norm in (("q_norm", attention.query_norm), ("k_norm", attention.key_norm)):
        if head_norm is not None:
            _fill_norm(getattr(spec, norm_spec), head_norm)
    _fill_linear(spec.linear[1], attention.output)


def _fill_scale(spec: Any, attention: SelfAttention | CrossAttention) -> None:
    """Fill the factor of scores, where it is not that of the size of a head."""
    score = attention.score
    assert isinstance(score, DotProduct)
    if score.scale is not None:
        spec.queries_scale = score.scale


def _fill_feed_forward(spec: Any, layer: FeedForward) -> None:
    _fill_linear(spec.linear_1, layer.outer)
    if layer.num_splits == 1:
        _fill_linear(spec.linear_0, layer.inner)
        return
    weights = _float(layer.inner.adapted_weight()).chunk(2)  # [2 * hidden, dim]
    biases = (None, None) if layer.inner.bias is None else _float(layer.inner.bias).chunk(2)
    for linear, weight, bias in zip(
        (spec.linear_0, spec.linear_0_noact), weights, biases, strict=True
    ):
        linear.weight = weight
        if bias is not None:
            linear.bias = bias


def _fill_linear(spec: Any, *layers: Linear) -> None:
    """Fill a linear map with one, or with several that read the same input."""
    spec.weight = torch.cat([_float(layer.adapted_weight()) for layer in layers])
    biases = [_float(layer.bias) for layer in layers if layer.bias is not None]
    if biases:
        spec.bias = torch.cat(biases)


def _fill_last_norm(spec: Any, norm: nn.Module) -> None:
    if not isinstance(norm, nn.Identity):
        _fill_norm(spec.layer_norm, norm)


def _fill_norm(spec: Any, norm: nn.Module) -> None:
    assert isinstance(norm, LayerNorm | RMSNorm)
    spec.gamma = _float(norm.scale)
    if isinstance(norm, LayerNorm) and norm.bias is not None:
        spec.beta = _float(norm.bias)
    elif isinstance(norm, RMSNorm) and hasattr(spec, "beta"):
        del spec.beta  # by which the two kinds are distinguished; those of parallel blocks have it


def _fill_output(spec: Any, model: Transformer | T5 | TransformerDecoder | Gpt) -> None:
    spec.projection.weight = _float(model.output_weight)
    bias = getattr(model, "output_bias", None)
    if bias is not None:
        spec.projection.bias = _float(bias).flatten()


def _float(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().contiguous()
