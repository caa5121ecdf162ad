"""Which models the compiled decoder covers, and why it does not cover others."""

from __future__ import annotations

import torch
from torch import nn

from regard.attention import Pattern
from regard.attention.patterns.mask_algebra import MaskTerm
from regard.generation.native import library
from regard.layers.embedding import TokenEmbedding
from regard.layers.layer import describe_pattern
from regard.layers.multi_head_attention import SelfAttention
from regard.layers.transformer_block import DecoderBlock, TransformerBlock
from regard.models.base.decoder import Decoder
from regard.models.base.encoder_decoder import EncoderDecoder
from regard.models.encoder_decoder.model import EncoderDecoderModel
from regard.models.gpt.model import Gpt
from regard.models.transformer.decoder_only import TransformerDecoder
from regard.models.transformer.model import Transformer

_CAUSAL_FAMILIES = (Gpt, TransformerDecoder)


def why_through_operators(model: nn.Module) -> str | None:
    """Return why a model decodes through PyTorch's operators, in a few words.

    Args:
        model: Any model; on the meta device it is judged as if it were on the CPU.

    Returns:
        None where the compiled decoder covers it.

    >>> from regard.models import LstmConfig, LstmEncoderDecoder
    >>> why_through_operators(LstmEncoderDecoder(LstmConfig(dim=8), 10))
    'LstmEncoderDecoder is not covered'
    """
    if library.load_fastest() is None:
        return "the decoder was not compiled"
    if isinstance(model, EncoderDecoder) and model.copy_head is not None:
        return "the copy mechanism is not covered"
    decoder = causal_part(model)
    if not isinstance(model, Transformer) and decoder is None:
        return f"{type(model).__name__} is not covered"
    parameter = next(model.parameters())
    if parameter.device.type not in ("cpu", "meta"):
        return f"the model is on the device {parameter.device.type}"
    if parameter.dtype == torch.float64:
        return "its weights are float64"
    for block in decoder_blocks(model):
        reason = _why_not_block(block)
        if reason is not None:
            return reason
    return None


def causal_part(model: nn.Module) -> Decoder | None:
    """Return the decoder-only model that a model is or writes with; None where there is none."""
    part = model.decoder if type(model) is EncoderDecoderModel else model
    return part if type(part) in _CAUSAL_FAMILIES and isinstance(part, Decoder) else None


def decoder_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks that write, first to last."""
    if isinstance(model, Transformer):
        return list(model.decoder)
    decoder = causal_part(model)
    return [] if decoder is None else list(decoder.blocks)


def target_embedding(model: nn.Module) -> TokenEmbedding:
    """Return the embedding of the tokens that are written."""
    if isinstance(model, Transformer):
        return model.target_embedding
    decoder = causal_part(model)
    assert decoder is not None
    return decoder.embedding


def band_of(pattern: Pattern) -> MaskTerm | None:
    """Return the one band of keys that a pattern allows each query; None where it is no band."""
    terms = getattr(pattern, "terms", tuple)()
    return terms[0] if len(terms) == 1 and terms[0].is_band else None


def _why_not_block(block: nn.Module) -> str | None:
    if type(block) not in (DecoderBlock, TransformerBlock):
        return f"{type(block).__name__} is not covered"
    attention = block.self_attention
    if type(attention) is not SelfAttention:
        return f"{type(attention).__name__} is not covered"
    band = band_of(attention.pattern)
    if band is None or band.after != 0:
        return f"{describe_pattern(attention.pattern)} of the decoder is not covered"
    if isinstance(block, DecoderBlock):
        pattern = block.cross_attention.pattern
        if band_of(pattern) != MaskTerm():
            return f"{describe_pattern(pattern)} over the source is not covered"
    return None
