"""The layers that models are built from; each is a `torch.nn.Module` to use on its own.

>>> import torch
>>> from regard.attention import Causal
>>> from regard.layers import SelfAttention
>>> attention = SelfAttention(64, 4, pattern=Causal())
>>> attention(torch.randn(2, 10, 64)).shape
torch.Size([2, 10, 64])
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.layers.attention_config import AttentionConfig
    from regard.layers.cache import KeyValueCache, WindowCache, cache_for
    from regard.layers.convolution import ConvBlock, ConvDecoderBlock, GatedConvolution
    from regard.layers.cross_entropy import linear_cross_entropy, mixture_cross_entropy
    from regard.layers.dropout import Dropout, set_dropout_generator
    from regard.layers.embedding import SegmentedEmbedding, TokenEmbedding
    from regard.layers.feed_forward import FeedForward
    from regard.layers.layer import (
        Description,
        Flow,
        Layer,
        count_flops,
        describe,
        describe_pattern,
    )
    from regard.layers.linear import Linear, use_plain_linears
    from regard.layers.longformer_attention import LongformerAttention
    from regard.layers.lora import LowRank, add_low_rank, merge_low_rank
    from regard.layers.masked_token_head import MaskedTokenHead
    from regard.layers.mesa_layer import MesaMixer, MesaSolver
    from regard.layers.multi_head_attention import CrossAttention, MultiHeadAttention, SelfAttention
    from regard.layers.norm import LayerNorm, RMSNorm, ZeroCenteredRMSNorm
    from regard.layers.patch_embedding import InputEmbedding, Patches
    from regard.layers.pointer_generator import CopyDistribution, CopySource, PointerGenerator
    from regard.layers.pooling import Pooler, mean_of_valid
    from regard.layers.positions import LearnedPositions, SinusoidalPositions, sinusoids
    from regard.layers.prediction_head import PredictionHead
    from regard.layers.recorded_attention import AttentionRecord, RecordedAttention
    from regard.layers.recurrent import Lstm
    from regard.layers.relative_attention import RelativeAttention, RelativePositions
    from regard.layers.relative_bias import RelativeBias
    from regard.layers.rotary import Rotary, rotate
    from regard.layers.rotary_scaling import (
        DynamicScaling,
        LinearScaling,
        Llama3Scaling,
        LongRopeScaling,
        PlainAngles,
        RotaryScaling,
        YarnScaling,
    )
    from regard.layers.seq2seq_attention import BahdanauAttention, LuongAttention, Seq2SeqAttention
    from regard.layers.transformer_block import (
        BlockConfig,
        DecoderBlock,
        ParallelBlock,
        TransformerBlock,
    )

import_lazily(__name__)

__all__ = [
    "AttentionConfig",
    "AttentionRecord",
    "BahdanauAttention",
    "BlockConfig",
    "ConvBlock",
    "ConvDecoderBlock",
    "CopyDistribution",
    "CopySource",
    "CrossAttention",
    "DecoderBlock",
    "Description",
    "Dropout",
    "DynamicScaling",
    "FeedForward",
    "Flow",
    "GatedConvolution",
    "InputEmbedding",
    "KeyValueCache",
    "Layer",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "LinearScaling",
    "Llama3Scaling",
    "LongRopeScaling",
    "LongformerAttention",
    "LowRank",
    "Lstm",
    "LuongAttention",
    "MaskedTokenHead",
    "MesaMixer",
    "MesaSolver",
    "MultiHeadAttention",
    "ParallelBlock",
    "Patches",
    "PlainAngles",
    "PointerGenerator",
    "Pooler",
    "PredictionHead",
    "RMSNorm",
    "RecordedAttention",
    "RelativeAttention",
    "RelativeBias",
    "RelativePositions",
    "Rotary",
    "RotaryScaling",
    "SegmentedEmbedding",
    "SelfAttention",
    "Seq2SeqAttention",
    "SinusoidalPositions",
    "TokenEmbedding",
    "TransformerBlock",
    "WindowCache",
    "YarnScaling",
    "ZeroCenteredRMSNorm",
    "add_low_rank",
    "cache_for",
    "count_flops",
    "describe",
    "describe_pattern",
    "linear_cross_entropy",
    "mean_of_valid",
    "merge_low_rank",
    "mixture_cross_entropy",
    "rotate",
    "set_dropout_generator",
    "sinusoids",
    "use_plain_linears",
]
