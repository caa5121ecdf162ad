"""Attention rollout: attention multiplied through the layers (Abnar & Zuidema 2020, equation 1).

    A = 0.5 W + 0.5 I, rows summing to 1;   R_l = A_l R_{l-1},   R_0 = I

with W the mean of a layer's weights over heads, and I the residual connection. In an
encoder-decoder the decoder has two such steps a block, over target t and source s:

    self-attention   R_t = A R_t,                R_s = A R_s
    cross-attention  R_t = 0.5 R_t,              R_s = 0.5 R_s + 0.5 C E

with C the mean cross-attention and E the rollout of the encoder: the composition of Ferrando et al.
2022 ("Towards Opening the Black Box of Neural Machine Translation", ALTI+) with raw weights in
place of their contributions. Cost: one pass, and layers x length^3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.explain.attribution.attention_graph import (
    BlockAttentionWeights,
    hide_unread,
    read_blocks,
    read_stacks,
)
from regard.explain.attribution.method import Attribution, Budget, Method
from regard.explain.prediction import Prediction


def rollout(prediction: Prediction, budget: Budget) -> Attribution:  # noqa: ARG001
    """Compute attention rollout from the features to the outputs.

    Args:
        prediction: That is explained.
        budget: Not used: one pass is small.

    Returns:
        Scores whose rows sum to 1.

    Raises:
        ConfigError: A layer has no attention, or no weights.
    """
    blocks = read_blocks(prediction, needs_self_attention=True)
    readout = prediction.readout
    scores = torch.zeros(len(prediction.outputs), len(prediction.features), dtype=readout.dtype)
    stacks = read_stacks(prediction, blocks)
    for index in stacks:
        stack, source = prediction.stacks[index], prediction.stacks[0]
        own, from_source = roll_out(blocks[index], blocks[0])
        scores[:, stack.start : stack.stop] += readout @ own.to(readout.dtype) / len(stacks)
        if from_source is not None:
            scores[:, source.start : source.stop] += readout @ from_source.to(readout.dtype)
    return Attribution(hide_unread(scores, prediction))


def roll_out(
    blocks: list[BlockAttentionWeights], encoder: list[BlockAttentionWeights]
) -> tuple[Tensor, Tensor | None]:
    """Compute the rollout of a stack.

    Args:
        blocks: Blocks of the stack, first to last.
        encoder: Blocks of the encoder whose last states cross-attention reads.

    Returns:
        What each last state holds of each first state, ``[positions, positions]``, and of each
        first state of the encoder, ``[positions, source_positions]``; None without
        cross-attention.
    """
    own, source, encoded = None, None, None
    for block in blocks:
        mixed = block.own_with_residual
        own = mixed if own is None else mixed @ own
        if block.source is None:
            continue
        if encoded is None:
            encoded, _ = roll_out(encoder, [])
        weights = block.source
        share = 0.5 * (weights.sum(-1, keepdim=True) > 0)  # 0 where nothing of the source is read
        source = torch.zeros_like(weights) if source is None else mixed @ source
        own, source = (1 - share) * own, (1 - share) * source + share * (weights @ encoded)
    assert own is not None
    return own, source


ROLLOUT = Method("Attention rollout", is_signed=False, compute=rollout, unit="attention")
