"""Gated sums over the past, chunk by chunk: what the Mesa layer shares with linear attention.

With forget gates g and write gates b, the sums ``H_t = g_t H_{t-1} + b_t k_t k_t^T`` and
``G_t = g_t G_{t-1} + b_t v_t k_t^T`` at position t of a chunk are

    H_t = d_t H_start + sum_{i <= t} w_ti k_i k_i^T,
    d_t = g_1 ... g_t,    w_ti = b_i g_{i+1} ... g_t

with products over the positions of the chunk; G_t is the same with v_i k_i^T. Only H and G at the
start of a chunk are computed as matrices, one after the other (the chunkwise form of linear
attention: Hua et al. 2022, "Transformer Quality in Linear Time"; Yang et al. 2023, arXiv
2312.06635). Both are
carried as one matrix, H above G. Cost: ``dim (dim + value_dim)`` multiply-adds a position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention.cumulative_sum import cumulative_sum


@dataclass(frozen=True, eq=False)
class Chunks:
    """All positions of a batch, cut into chunks.

    Args:
        q: Queries, ``[batch, heads, num_chunks, chunk, dim]``.
        k: Keys, ``[batch, heads, num_chunks, chunk, dim]``.
        v: Values, ``[batch, heads, num_chunks, chunk, value_dim]``.
        decays: d, what position t keeps of the state before its chunk,
            ``[batch or 1, heads or 1, num_chunks, chunk, 1]``.
        weights: w, what position t keeps of position i, ``[batch or 1, heads or 1, num_chunks,
            chunk, chunk]``, 0 for the future.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    decays: Tensor
    weights: Tensor


def cut(q: Tensor, k: Tensor, v: Tensor, forget: Tensor, write: Tensor, *, size: int) -> Chunks:
    """Cut positions into chunks, filled up with positions that have no effect.

    Args:
        q: Queries, ``[batch, heads, length, dim]``.
        k: Keys, ``[batch, heads, length, dim]``.
        v: Values, ``[batch, heads, length, value_dim]``.
        forget: Logarithms of the forget gates, ``[batch or 1, heads or 1, length, 1]``, 0 or below;
            minus infinity resets exactly.
        write: Write gates, ``[batch or 1, heads or 1, length, 1]``.
        size: Positions of a chunk, 1 or more.

    Returns:
        One chunk or more.
    """
    num_chunks = 1 if torch.compiler.is_compiling() else max(1, -(-q.shape[2] // size))
    missing = num_chunks * size - q.shape[2]
    q, k, v, forget, write = (
        F.pad(x, (0, 0, 0, missing)).unflatten(2, (num_chunks, size))
        for x in (q, k, v, forget, write)
    )
    future = torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1)
    # Sums over i < j <= t, each from zero: of differences of sums from the first position nothing
    # would be left behind a gate near 0, whose logarithm is large, or infinite.
    log_weights = cumulative_sum(torch.where(future.mT, forget, 0.0), 3)
    # Masked before the exponential, so that the future has a gradient of 0.
    weights = log_weights.masked_fill(future, float("-inf")).exp() * write.mT
    return Chunks(q, k, v, cumulative_sum(forget, 3).exp(), weights)


def chunk_size(length: int, most: int) -> int:
    """Return the positions of a chunk, at most `most`: all of them in a graph for any length."""
    return length if torch.compiler.is_compiling() else min(most, max(length, 1))


def carry(chunks: Chunks, state: Tensor) -> tuple[Tensor, Tensor]:
    """Carry H and G through the chunks.

    Args:
        chunks: The positions.
        state: State before the first one, H above G, ``[batch, heads, dim + value_dim, dim]``.

    Returns:
        The states before every chunk, ``[batch, heads, num_chunks, dim + value_dim, dim]``, and the
        state after the last one.
    """
    written = chunks.k * chunks.weights[..., -1:, :].mT  # [batch, heads, chunks, chunk, dim]
    products = torch.cat([chunks.k, chunks.v], dim=-1).mT @ written
    starts = []
    decays = chunks.decays[..., -1:, :]  # of whole chunks
    for decay, product in zip(decays.unbind(2), products.unbind(2), strict=True):
        starts.append(state)
        state = torch.addcmul(product, decay, state)
    return torch.stack(starts, dim=2), state


def split_state(state: Tensor) -> tuple[Tensor, Tensor]:
    """Split a state into H and G.

    Args:
        state: H above G, ``[..., dim + value_dim, dim]``.

    Returns:
        H, ``[..., dim, dim]``, and G, ``[..., value_dim, dim]``.
    """
    dim = state.shape[-1]
    return state[..., :dim, :], state[..., dim:, :]
