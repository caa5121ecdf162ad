"""Attention as a graph from features to outputs: what raw attention, rollout and flow compute on.

Each block of a stack has the mean of its self-attention over heads, and one that reads the source
also that of its cross-attention.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.explain.attribution.method import TooLongError
from regard.explain.capture import attention_layers, capture_in_parts, layer_sizes
from regard.explain.prediction import Prediction

_PARTS = {"cross": "source"}  # of a block, by the kind of a layer; others are its own
_MOST_PAIRS = 1 << 29  # of all layers: 2 GiB as dense matrices


class BlockAttentionWeights(NamedTuple):
    """Mean weights of one block.

    Args:
        own: Weights of self-attention, ``[positions, positions]``; None where it has none.
        source: Weights of cross-attention, ``[positions, source_positions]``; None where it has
            none.
    """

    own: Tensor | None = None
    source: Tensor | None = None

    @property
    def own_with_residual(self) -> Tensor:
        """Self-attention with the residual connection, see `with_residual`."""
        assert self.own is not None
        return with_residual(self.own, torch.eye(len(self.own), dtype=self.own.dtype))


def read_blocks(
    prediction: Prediction, *, needs_self_attention: bool
) -> list[list[BlockAttentionWeights]]:
    """Return the attention of each block of each stack.

    Args:
        prediction: Whose attention is captured.
        needs_self_attention: Whether every block must have it.

    Raises:
        ConfigError: The model has no attention, a layer has no weights, or a block lacks the
            self-attention that is needed.
    """
    _require_short(prediction)
    blocks = [[BlockAttentionWeights()] * len(stack.layers) for stack in prediction.stacks]
    num_layers = 0
    for layer in capture_in_parts(prediction):
        if layer.refusal:
            raise ConfigError(f"{layer.refusal}  Take another method, such as occlusion.")
        stack = blocks[layer.stack]
        part = _PARTS.get(layer.kind, "own")
        stack[layer.depth] = stack[layer.depth]._replace(**{part: layer.mean_weights})
        num_layers += 1
    if not num_layers:
        raise ConfigError("the model has no attention.  Take another method, such as occlusion.")
    if needs_self_attention:
        _require_self_attention(prediction, blocks)
    return blocks


def _require_short(prediction: Prediction) -> None:
    layers = attention_layers(prediction).values()
    if sum(math.prod(layer_sizes(prediction, layer)) for layer in layers) > _MOST_PAIRS:
        raise TooLongError(
            f"attention between {len(prediction.features):,} tokens is too much to follow.  Take "
            "another method, such as occlusion, or a shorter text."
        )


def _require_self_attention(
    prediction: Prediction, blocks: list[list[BlockAttentionWeights]]
) -> None:
    for stack, parts in zip(prediction.stacks, blocks, strict=True):
        if any(part.own is None for part in parts):
            raise ConfigError(
                f"the layers of the {stack.name} have no self-attention, through which rollout "
                "and flow follow the features.  Take another method, such as occlusion."
            )


def read_stacks(prediction: Prediction, blocks: list[list[BlockAttentionWeights]]) -> list[int]:
    """Return the indices of the stacks whose last states the outputs read.

    That is the last stack of an encoder-decoder, and all of an ensemble.
    """
    reads_source = any(block.source is not None for stack in blocks for block in stack)
    return [len(prediction.stacks) - 1] if reads_source else list(range(len(prediction.stacks)))


def with_residual(weights: Tensor, identity: Tensor) -> Tensor:
    """Compute ``0.5 A + 0.5 I`` with rows that sum to 1 (Abnar & Zuidema 2020, section 3).

    Args:
        weights: A, ``[queries, keys]``; a row of zeros, which attends to nothing, becomes I's.
        identity: What the residual connection reads, ``[queries, keys]``.

    Returns:
        The mixed weights, ``[queries, keys]``.
    """
    mixed = 0.5 * weights + 0.5 * identity
    return mixed / mixed.sum(-1, keepdim=True)


def hide_unread(scores: Tensor, prediction: Prediction) -> Tensor:
    """Return scores ``[outputs, features]`` with NaN where an output does not read a feature."""
    return scores.masked_fill(~prediction.reads, torch.nan)
