"""Floating-point operations of a layer's forward pass, counted from its modules.

A product of matrices counts two operations for every pair of numbers multiplied; so does a
convolution. Attention counts the pairs that its pattern allows, exactly, whatever way they are
computed: below 512 x 512 pairs `attend` computes all of them and hides some. Looking up rows of a
table counts nothing, nor do norms, activations, softmax and sums, which are of lower order. A
backward pass costs twice as much as the forward one (Kaplan et al. 2020, "Scaling Laws for Neural
Language Models", section 2.1), so training costs three times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from torch import nn

from regard.attention import Full, Pattern, ScoreDependentPattern
from regard.layers.linear import Linear
from regard.layers.longformer_attention import LongformerAttention
from regard.layers.lora import LowRank
from regard.layers.mesa_layer import CHUNK, MesaMixer, ShortConvolution
from regard.layers.multi_head_attention import MultiHeadAttention
from regard.layers.patch_embedding import InputEmbedding
from regard.layers.relative_attention import RelativeAttention
from regard.layers.seq2seq_attention import Seq2SeqAttention

TRAINING_FACTOR = 3
"""Operations of forward and backward pass together, in forward passes."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer is run on.

    Args:
        length: Positions of its input (of queries and of keys, where they differ), 1 or more.
        dim: Size of the model: of queries and values where a layer has no maps to tell it.
    """

    length: int
    dim: int


def forward_flops(module: nn.Module, sizes: Sizes) -> int:
    """Count the operations of a forward pass of one row.

    Args:
        module: A layer; one without a rule costs what its children cost.
        sizes: What it is run on.

    Returns:
        Operations.

    >>> forward_flops(Linear(8, 4), Sizes(length=10, dim=8))
    640
    """
    for kind in type(module).__mro__:
        if kind in RULES:
            return RULES[kind](module, sizes)
    return _of_children(module, sizes)


def attention_flops(pattern: Pattern, queries: int, keys: int, dim: int) -> int:
    """Count scores and sums of values of one head.

    Args:
        pattern: Which pairs there are.
        queries: Number of queries.
        keys: Number of keys.
        dim: Size of a query, a key and a value.

    Returns:
        Operations.
    """
    assert isinstance(pattern, Pattern)  # those that are no masks answer their cost as well
    return pattern.cost(queries, keys, dim=dim).flops


def _of_children(module: nn.Module, sizes: Sizes) -> int:
    return sum(forward_flops(child, sizes) for child in module.children())


def _of_linear(module: Linear | nn.Linear, sizes: Sizes) -> int:
    return 2 * module.weight.numel() * sizes.length + _of_children(module, sizes)


def _of_front_end(module: InputEmbedding, sizes: Sizes) -> int:
    """Count the map of every patch or row; the class token goes through none."""
    weight = module.projection.weight
    assert isinstance(weight, nn.Parameter)
    return 2 * weight.numel() * (sizes.length - (module.class_token is not None))


def _of_low_rank(module: LowRank, sizes: Sizes) -> int:
    return 2 * (module.down.numel() + module.up.numel()) * sizes.length


def _of_short_convolution(module: ShortConvolution, sizes: Sizes) -> int:
    return 2 * module.weight.numel() * sizes.length


def num_heads(module: MultiHeadAttention) -> int:
    """Count the heads of queries."""
    return module.output.weight.shape[1] // module.head_dim


def _of_heads(module: MultiHeadAttention, sizes: Sizes) -> int:
    length = sizes.length
    scores = attention_flops(module.pattern, length, length, module.head_dim)
    return _of_children(module, sizes) + num_heads(module) * scores


def _of_relative(module: RelativeAttention, sizes: Sizes) -> int:
    """Count a row without memory: beside attention the product with the table of distances."""
    width = num_heads(module) * module.head_dim
    return _of_heads(module, sizes) + 2 * sizes.length**2 * width


def _of_longformer(module: LongformerAttention, sizes: Sizes) -> int:
    """Count global tokens through their own maps, and all others by the pattern."""
    length, dim, pattern = sizes.length, module.head_dim, module.pattern
    num_global = min(module.num_global, length)
    flops = forward_flops(module.output, sizes)
    if num_global:
        flops += 2 * module.global_query.weight.numel() * num_global
        flops += forward_flops(module.global_key_value, sizes)
        flops += num_heads(module) * attention_flops(Full(), num_global, length, dim)
    if num_global < length:
        others = attention_flops(pattern, length, length, dim)
        if not isinstance(pattern, ScoreDependentPattern):  # it holds the global queries' pairs too
            others -= attention_flops(Full(), num_global, length, dim)
        flops += forward_flops(module.query_key_value, sizes) + num_heads(module) * others
    return flops


def _of_source(module: Seq2SeqAttention, sizes: Sizes) -> int:
    """Count one head; an additive score costs as much a pair as a dot product."""
    scores = attention_flops(module.pattern, sizes.length, sizes.length, sizes.dim)
    return _of_children(module, sizes) + scores


def _of_mesa(module: MesaMixer, sizes: Sizes) -> int:
    """Count every chunk whole and the most iterations there may be."""
    chunk, dim = min(CHUNK, sizes.length), module.head_dim
    num_chunks = -(-sizes.length // chunk)
    by_state, by_pair = 2 * chunk * dim * dim, 2 * chunk * chunk * dim
    solver = module.training_solver if module.training else module.inference_solver
    # G: carried and applied; within a chunk queries meet keys, and weights meet values.
    of_chunk = 2 * by_state + 2 * by_pair
    if solver is not None:  # H is carried, the diagonals are computed, then the iterations
        of_chunk += by_state + by_pair + solver.num_iterations * (by_state + 2 * by_pair)
    return _of_children(module, sizes) + module.num_heads * num_chunks * of_chunk


RULES: dict[type[nn.Module], Callable[[Any, Sizes], int]] = {
    Linear: _of_linear,
    nn.Linear: _of_linear,
    InputEmbedding: _of_front_end,
    LowRank: _of_low_rank,
    ShortConvolution: _of_short_convolution,
    MultiHeadAttention: _of_heads,
    RelativeAttention: _of_relative,
    LongformerAttention: _of_longformer,
    Seq2SeqAttention: _of_source,
    MesaMixer: _of_mesa,
}
"""Operations by class; a class without a rule of its own takes that of its nearest base."""
