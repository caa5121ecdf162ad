"""What a layer is, told from the module itself: its kind in a word, and its sizes.

A class without a rule here is told by its name, and by its children.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from regard.attention import Pattern, format_pattern
from regard.errors import ConfigError
from regard.explain.flops import num_heads
from regard.layers.convolution import GatedConvolution
from regard.layers.embedding import SegmentedEmbedding, TokenEmbedding
from regard.layers.feed_forward import ACTIVATIONS, FeedForward
from regard.layers.linear import Linear
from regard.layers.longformer_attention import LongformerAttention
from regard.layers.masked_token_head import MaskedTokenHead
from regard.layers.mesa_layer import MesaMixer
from regard.layers.multi_head_attention import CrossAttention, MultiHeadAttention, SelfAttention
from regard.layers.norm import LayerNorm, RMSNorm
from regard.layers.patch_embedding import InputEmbedding, Patches
from regard.layers.positions import LearnedPositions
from regard.layers.recurrent import Lstm, LstmEncoderLayer
from regard.layers.relative_attention import RelativeAttention, RelativePositions
from regard.layers.seq2seq_attention import BahdanauAttention, LuongAttention, Seq2SeqAttention


class Description(NamedTuple):
    """A kind of layer, and facts about it, each short enough for a line."""

    kind: str
    facts: tuple[str, ...] = ()


def describe(module: nn.Module) -> Description | None:
    """Tell what a layer is; None where only its children can be told.

    >>> describe(FeedForward(8, 32, activation="relu", output_init_scale=1.0))
    Description(kind='feed-forward', facts=('8 to 32 to 8', 'relu'))
    """
    for kind in type(module).__mro__:
        if kind in RULES:
            return RULES[kind](module)
    return None


def class_words(module: nn.Module) -> str:
    """Write the name of a module's class in words.

    >>> class_words(nn.ModuleList())
    'module list'
    """
    words = " ".join(re.findall(r"[A-Z]+[a-z0-9]*", type(module).__name__)).lower()
    return words.removeprefix("transformer ")


def describe_table(table: nn.Parameter) -> Description:
    """Tell what a bare table of tokens is, ``[vocab, dim]``."""
    return Description("embedding", (_rows(table, "tokens"),))


def describe_pattern(pattern: Pattern) -> str:
    """Write a pattern as settings have it, or as Python does where it has no such form."""
    assert isinstance(pattern, Pattern)
    try:
        return f"pattern {format_pattern(pattern)}"
    except ConfigError:
        return f"pattern {pattern!r}"


def _rows(table: nn.Parameter, of: str) -> str:
    rows, dim = table.shape
    return f"{rows:,} {of} of {dim:,}"


def _activation(function: Callable[..., Any]) -> str:
    return next(name for name, known in ACTIVATIONS.items() if known is function)


def _of_embedding(module: TokenEmbedding) -> Description:
    facts = [_rows(module.weight, "tokens")]
    if isinstance(module.positions, LearnedPositions):
        facts.append(f"{len(module.positions.weight):,} learned positions")
    elif module.positions is not None:
        facts.append("sinusoidal positions")
    facts += [] if module.norm is None else ["layer norm"]
    return Description("embedding", tuple(facts))


def _of_front_end(module: InputEmbedding) -> Description:
    weight = module.projection.weight
    assert isinstance(weight, nn.Parameter)
    if isinstance(module.projection, Patches):
        dim, channels, height, width = weight.shape
        facts = [f"patches of {height} x {width} x {channels} to {dim:,}"]
    else:
        facts = [f"rows of {weight.shape[1]:,} to {weight.shape[0]:,}"]
    facts.append(f"{module.positions.shape[1]:,} learned positions")
    facts += [] if module.class_token is None else ["class token"]
    return Description("front end", tuple(facts))


def _of_segmented(module: SegmentedEmbedding) -> Description:
    facts = [_rows(module.weight, "tokens"), f"{len(module.positions.weight):,} learned positions"]
    if module.segments is not None:
        facts.append(f"table of segments: {len(module.segments)}")
    return Description("embedding", (*facts, "layer norm"))


def _heads(module: MultiHeadAttention) -> str:
    return f"{num_heads(module)} heads of {module.head_dim}"


def _of_self_attention(module: SelfAttention) -> Description:
    facts = [_heads(module)]
    if module.is_grouped:
        shared = module.key_value.weight.shape[0] // (2 * module.head_dim)
        facts.append(f"{shared} of keys and values")
    facts.append(describe_pattern(module.pattern))
    if module.rotary is not None:
        facts.append("rotary positions")
    return Description("self-attention", tuple(facts))


def _of_longformer(module: LongformerAttention) -> Description:
    plain = _of_self_attention(module)
    return plain._replace(facts=(*plain.facts, f"global tokens: {module.num_global}"))


def _of_relative(module: RelativeAttention) -> Description:
    facts = (_heads(module), describe_pattern(module.pattern), f"memory of {module.memory:,}")
    return Description("self-attention", (*facts, "relative positions"))


def _of_cross_attention(module: CrossAttention) -> Description:
    return Description("cross-attention", (_heads(module), describe_pattern(module.pattern)))


def _of_source_attention(module: Seq2SeqAttention) -> Description:
    return Description("cross-attention", ("1 head, dot", describe_pattern(module.pattern)))


def _of_bahdanau(module: BahdanauAttention) -> Description:
    return Description("cross-attention", ("1 head, additive", describe_pattern(module.pattern)))


def _of_luong(module: LuongAttention) -> Description:
    score = "dot" if isinstance(module.key, nn.Identity) else "general"
    return Description("cross-attention", (f"1 head, {score}", describe_pattern(module.pattern)))


def _of_feed_forward(module: FeedForward) -> Description:
    dim, hidden_dim = module.outer.weight.shape
    # Gated networks apply the function of another name to one half.
    activation = "swiglu" if module.num_splits == 2 else _activation(module.activation)
    return Description("feed-forward", (f"{dim:,} to {hidden_dim:,} to {dim:,}", activation))


def _of_mesa(module: MesaMixer) -> Description:
    heads = f"{module.num_heads} heads of {module.head_dim}"
    width = f"short convolution of {module.convolution.width}"
    solver = module.training_solver if module.training else module.inference_solver
    if solver is None:
        return Description("gated linear attention", (heads, width))
    solve = f"at most {solver.num_iterations} iterations of conjugate gradient"
    return Description("mesa layer", (heads, width, solve))


def _of_lstm(module: Lstm) -> Description:
    in_dim = module.input.weight.shape[1]
    facts = (f"{in_dim:,} to {module.dim:,}", *(("right to left",) if module.is_reversed else ()))
    return Description("LSTM", facts)


def _of_lstm_layer(module: LstmEncoderLayer) -> Description:
    layers = [layer for layer in module.directions if isinstance(layer, Lstm)]
    if len(layers) == 1:
        return _of_lstm(layers[0])
    sizes = _of_lstm(layers[0]).facts[0]
    return Description("LSTM", (f"{sizes} in each of {len(layers)} directions",))


def _of_convolution(module: GatedConvolution) -> Description:
    after = module.kernel_width - 1 - module.num_before
    side = f"{module.num_before} before, {after} after"
    return Description("gated convolution", (f"kernel {module.kernel_width}: {side}",))


def _of_linear(module: Linear | nn.Linear) -> Description:
    out_dim, in_dim = module.weight.shape
    return Description("linear", (f"{in_dim:,} to {out_dim:,}",))


def _of_head(module: MaskedTokenHead) -> Description:
    facts = (f"linear, {_activation(module.activation)}, layer norm", "table of tokens")
    return Description("masked-token head", facts)


def _of_relative_positions(module: RelativePositions) -> Description:
    heads, head_dim = module.content_bias.shape
    return Description("relative positions", (f"u and v: {heads} heads of {head_dim}",))


RULES: dict[type[nn.Module], Callable[[Any], Description]] = {
    TokenEmbedding: _of_embedding,
    SegmentedEmbedding: _of_segmented,
    InputEmbedding: _of_front_end,
    SelfAttention: _of_self_attention,
    LongformerAttention: _of_longformer,
    RelativeAttention: _of_relative,
    RelativePositions: _of_relative_positions,
    CrossAttention: _of_cross_attention,
    Seq2SeqAttention: _of_source_attention,
    BahdanauAttention: _of_bahdanau,
    LuongAttention: _of_luong,
    MesaMixer: _of_mesa,
    FeedForward: _of_feed_forward,
    GatedConvolution: _of_convolution,
    Lstm: _of_lstm,
    LstmEncoderLayer: _of_lstm_layer,
    Linear: _of_linear,
    nn.Linear: _of_linear,
    LayerNorm: lambda _: Description("layer norm"),
    RMSNorm: lambda _: Description("RMS norm"),
    MaskedTokenHead: _of_head,
}
"""Descriptions by class; a class without a rule of its own takes that of its nearest base."""
