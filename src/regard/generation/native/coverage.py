"""Which models the compiled decoder covers, and why it does not cover others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeGuard, cast

import torch
from torch import nn

from regard.attention.patterns.mask_algebra import MaskTerm
from regard.errors import ConfigError
from regard.generation.native import library
from regard.layers.dropout import Dropout
from regard.layers.embedding import TokenEmbedding
from regard.layers.feed_forward import FeedForward
from regard.layers.layer import describe_pattern
from regard.layers.linear import Adapter, Linear
from regard.layers.multi_head_attention import CrossAttention, SelfAttention
from regard.layers.norm import LayerNorm, RMSNorm, ZeroCenteredRMSNorm
from regard.layers.pointer_generator import PointerGenerator
from regard.layers.positions import LearnedPositions, SinusoidalPositions
from regard.layers.relative_bias import RelativeBias
from regard.layers.rotary import Rotary
from regard.layers.transformer_block import (
    DecoderBlock,
    ParallelBlock,
    ResidualConnection,
    TransformerBlock,
)
from regard.models.transformer.model import Transformer

if TYPE_CHECKING:
    from regard.attention import Pattern
    from regard.models.base.decoder import Decoder
    from regard.models.t5.model import T5

# By name, because a model of one family needs the module of no other.
_T5 = "regard.models.t5.model.T5"
_JOINED = "regard.models.encoder_decoder.model.EncoderDecoderModel"
_CAUSAL_FAMILIES = (
    "regard.models.gpt.model.Gpt",
    "regard.models.transformer.decoder_only.TransformerDecoder",
)

_COVERED_MODULES = {
    CrossAttention,
    DecoderBlock,
    Dropout,
    FeedForward,
    LayerNorm,
    LearnedPositions,
    Linear,
    ParallelBlock,
    PointerGenerator,
    RelativeBias,
    ResidualConnection,
    RMSNorm,
    Rotary,
    SelfAttention,
    SinusoidalPositions,
    TokenEmbedding,
    TransformerBlock,
    ZeroCenteredRMSNorm,
    nn.Identity,
}

Block = DecoderBlock | TransformerBlock


class BlockStack(NamedTuple):
    """An embedding, the blocks after it and what follows the last of them.

    Args:
        embedding: Of the tokens.
        blocks: All of one kind, first to last.
        last_norm: A norm, or the identity.
        output_scale: Factor on what it gives.
        logit_cap: Bound of the logits; None has none.
    """

    embedding: TokenEmbedding
    blocks: list[Block]
    last_norm: nn.Module
    output_scale: float = 1.0
    logit_cap: float | None = None


def why_through_operators(model: nn.Module) -> str | None:
    """Return why a model decodes through PyTorch's operators, in a few words.

    Args:
        model: Any model; on the meta device it is judged as if it were on the CPU.

    Returns:
        None where the compiled decoder covers it.

    >>> from regard.models import LstmConfig, LstmEncoderDecoder
    >>> "LstmEncoderDecoder" in (why_through_operators(LstmEncoderDecoder(LstmConfig(), 9)) or "")
    True
    """
    if (reason := why_not_covered(model)) is not None:
        return reason
    parameter = next(model.parameters())
    if parameter.device.type not in ("cpu", "meta"):
        return f"the model is on the device {parameter.device.type}"
    if parameter.dtype == torch.float64:
        return "its weights are float64"
    return None if library.load_fastest() is not None else "the decoder was not compiled"


def why_not_covered(model: nn.Module) -> str | None:
    """Return which part of a model is not covered, on any device; None where all are."""
    parts = _writing_parts(model)
    if parts is None:
        return f"{type(model).__name__} is not covered"
    for block in parts[1]:
        reason = _why_not_block(block)
        if reason is not None:
            return reason
    embedding, blocks, last_norm = parts
    return _why_not_modules(embedding, *blocks, last_norm, getattr(model, "copy_head", None))


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Return the modules of a model, as ``model.modules()`` in a third of the time."""
    modules = [model]
    for module in modules:  # it grows
        modules += [child for child in module._modules.values() if child is not None]
    return modules


def target_stack(model: nn.Module) -> BlockStack:
    """Return what writes, of a model that is covered."""
    parts = _writing_parts(model)
    assert parts is not None
    embedding, blocks, last_norm = parts
    return BlockStack(
        embedding,
        [block for block in blocks if isinstance(block, Block)],
        last_norm,
        getattr(model, "output_scale", 1.0),
        getattr(getattr(_causal_part(model), "config", None), "logit_soft_cap", None),
    )


def source_stack(model: nn.Module) -> BlockStack | None:
    """Return what reads the source; None where PyTorch's operators do, or nothing."""
    if not (_is_t5(model) or isinstance(model, Transformer)):
        return None
    if getattr(model, "source_roles", None) is not None:
        return None
    blocks: list[Block] = [block for block in model.encoder if type(block) is TransformerBlock]
    stack = BlockStack(model.source_embedding, blocks, model.encoder_norm)
    is_covered = len(blocks) == len(model.encoder) and all(
        type(block.self_attention) is SelfAttention
        and band_of(block.self_attention.pattern) is not None
        for block in blocks
    )
    if not is_covered or _why_not_modules(stack.embedding, *blocks, stack.last_norm) is not None:
        return None
    return stack


def output_bias(model: nn.Module) -> torch.Tensor | None:
    """Return what is added to the logits of each token, of any shape; None where nothing is."""
    part = model if isinstance(model, Transformer) else _causal_part(model)
    return getattr(part, "output_bias", None)


def self_attention_of(block: Block) -> SelfAttention:
    """Return the self-attention of a block that is covered; raise ConfigError for others."""
    attention = block.self_attention
    if not isinstance(attention, SelfAttention):
        raise ConfigError(f"{type(attention).__name__} is not covered by the compiled decoder.")
    return attention


def band_of(pattern: Pattern) -> MaskTerm | None:
    """Return the one band of keys that a pattern allows each query; None for other patterns."""
    terms = getattr(pattern, "terms", tuple)()
    return terms[0] if len(terms) == 1 and terms[0].is_band else None


def _causal_part(model: nn.Module) -> Decoder | None:
    """Return the decoder-only model that a model is or writes with; None where there is none."""
    part = getattr(model, "decoder", None) if _family_name(model) == _JOINED else model
    return cast("Decoder", part) if _family_name(part) in _CAUSAL_FAMILIES else None


def _is_t5(model: nn.Module) -> TypeGuard[T5]:
    return _family_name(model) == _T5


def _family_name(model: object) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _writing_parts(
    model: nn.Module,
) -> tuple[TokenEmbedding, Iterable[nn.Module], nn.Module] | None:
    if type(model) is Transformer or _is_t5(model):
        return model.target_embedding, model.decoder, model.decoder_norm
    part = _causal_part(model)
    return None if part is None else (part.embedding, part.blocks, part.norm)


def _why_not_block(block: nn.Module) -> str | None:
    if type(block) not in (DecoderBlock, ParallelBlock, TransformerBlock):
        return f"{type(block).__name__} is not covered"
    assert isinstance(block, Block)
    attention = block.self_attention
    if type(attention) is not SelfAttention:
        return f"{type(attention).__name__} is not covered"
    band = band_of(attention.pattern)
    if band is None or band.after != 0:
        return f"{describe_pattern(attention.pattern)} of the decoder is not covered"
    if (reason := _why_not_sublayers(attention, block)) is not None:
        return reason
    norms = [module for module in block.modules() if isinstance(module, LayerNorm | RMSNorm)]
    if len({(type(norm), norm.epsilon) for norm in norms}) > 1:
        return "its norms differ"
    if isinstance(block, DecoderBlock):
        pattern = block.cross_attention.pattern
        if band_of(pattern) != MaskTerm():
            return f"{describe_pattern(pattern)} over the source is not covered"
        if block.cross_attention.score.soft_cap is not None:
            return "the bound of scores over the source is not covered"
    return None


def _why_not_sublayers(attention: SelfAttention, block: Block) -> str | None:
    """Return which kind of angle or activation of a block is not covered."""
    rotary, is_odd = attention.rotary, attention.head_dim % 2 == 1
    if rotary is not None and rotary.fraction != 1 and (rotary.interleaved or is_odd):
        return "the rotation of a part of each head is not covered"
    activation = block.feed_forward.activation_name
    return None if activation in library.ACTIVATIONS else f"{activation} is not covered"


def _why_not_modules(*parts: nn.Module | None) -> str | None:
    """Return why some parts do not compute as the compiled decoder does; None where they do."""
    shapes, scores, rotated = set(), set(), set()
    for part in parts:
        for module in () if part is None else modules_of(part):
            if type(module) not in _COVERED_MODULES and not isinstance(module, Adapter):
                return f"{type(module).__name__} is not covered"
            if "forward" in vars(module):
                return f"the `forward` of a {type(module).__name__} was replaced"
            if isinstance(module, LayerNorm) and module.bias is None:
                return "a LayerNorm without biases is not covered"
        if isinstance(part, Block):
            shapes.add(_shape_of(part))
            attention = self_attention_of(part)
            scores.add((attention.score.soft_cap, attention.position_bias is None))
            rotary = attention.rotary
            rotated.add(rotary and (rotary.interleaved, rotary.fraction))
    for values, name in ((shapes, "sizes"), (scores, "scores"), (rotated, "rotary positions")):
        if len(values) > 1:
            return f"its layers differ in their {name}"
    return None


def _shape_of(block: Block) -> tuple[object, ...]:
    """Return what the compiled decoder expects to be equal in all blocks of a stack."""
    attention, residual = self_attention_of(block), block.feed_forward_residual
    norms = (m for m in block.modules() if isinstance(m, LayerNorm | RMSNorm))
    return (
        (attention.num_heads, attention.num_kv_heads, attention.head_dim),
        (block.feed_forward.outer.in_features, block.feed_forward.activation_name),
        (type(block), residual.is_pre),
        frozenset((type(norm), norm.epsilon) for norm in norms),
    )
