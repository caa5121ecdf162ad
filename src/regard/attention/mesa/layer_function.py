"""The Mesa layer: attention that solves a least-squares problem over its past at every position.

Position t fits a linear map from the keys to the values seen so far and applies it to its query:

    Phi_t = argmin over Phi of  sum_{i <= t} z_ti |v_i - Phi k_i|^2 + trace(Phi diag(Lambda) Phi^T)
    o_t = Phi_t q_t = G_t (H_t + diag(Lambda))^-1 q_t,
    H_t = g_t H_{t-1} + b_t k_t k_t^T,    G_t = g_t G_{t-1} + b_t v_t k_t^T

with forget gates g, write gates b and weights z_ti = b_i g_{i+1} ... g_t; Lambda does not decay
(von Oswald et al. 2025, "MesaNet: Sequence Modeling by Locally Optimal Test-Time Training", arXiv
2506.05233; without gates von Oswald et al. 2023, "Uncovering mesa-optimization algorithms in
Transformers", arXiv 2309.05858). The systems are solved by conjugate gradient (`solver.py`), whose
number of iterations may differ between inference and training. It starts from zero and is
preconditioned by the diagonal of the system, where the paper starts plain conjugate gradient from
the query divided by that diagonal: one iteration here is that start at its best length.

Positions are computed in chunks (`chunks.py`); the result does not depend on them. Cost, for
every position and head: about ``num_iterations * (dim^2 + 2 chunk dim)`` multiply-adds, linear in
the length. Memory: ``length * (chunk + dim^2 / chunk)`` numbers, no matrix for each position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor

from regard.attention.mesa.chunks import Chunks, carry, chunk_size, cut, split_state
from regard.attention.mesa.solver import Systems, solve
from regard.attention.options import check_integers, check_tensors
from regard.errors import ConfigError, ShapeError


@dataclass(frozen=True, eq=False)
class MesaState:
    """The Mesa layer's memory of the past: H and G, whose size does not depend on the length.

    Args:
        keys: H, ``[batch, heads, dim, dim]``, float32 or float64; its symmetric part counts.
        values: G, ``[batch, heads, value_dim, dim]``.
    """

    keys: Tensor
    values: Tensor

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        regularization: Tensor,
        forget: Tensor | None = None,
        write: Tensor | None = None,
        num_iterations: int = 30,
        tolerance: float | None = None,
    ) -> tuple[Tensor, MesaState]:
        """Add one position and compute its output; equal to `mesa` over all positions.

        Args:
            q: Query, ``[batch, heads, dim]``.
            k: Key, ``[batch, heads, dim]``.
            v: Value, ``[batch, heads, value_dim]``.
            regularization: Lambda, ``[heads, dim]``, above 0.
            forget: Logarithm of the forget gate, ``[batch, heads]``, 0 or below, minus infinity
                to forget all; None disables forgetting.
            write: Write gate, ``[batch, heads]``, 0 or above; None is 1.
            num_iterations: Iterations of conjugate gradient, 1 or more.
            tolerance: Stop when the residual has fallen to this fraction of the query; see `mesa`.

        Returns:
            The output, ``[batch, heads, value_dim]``, and the state with this position.

        Raises:
            ShapeError: A tensor does not fit the others; the message names it.
            ConfigError: A number is out of range.
        """
        for name, tensor in (("q", q), ("k", k), ("v", v)):
            if tensor.dim() != 3:
                raise ShapeError(
                    f"{name} has shape {list(tensor.shape)}; expected 3 axes, [batch, heads, dim], "
                    "of one position."
                )
        out, state = mesa(
            *(x.unsqueeze(2) for x in (q, k, v)),
            regularization=regularization,
            forget=None if forget is None else forget.unsqueeze(-1),
            write=None if write is None else write.unsqueeze(-1),
            num_iterations=num_iterations,
            tolerance=tolerance,
            initial=self,
            return_state=True,
        )
        return out.squeeze(2), state

    def select(self, rows: Tensor) -> MesaState:
        """Return the state of the rows with these indices into the batch, ``[rows]``."""
        return MesaState(self.keys[rows], self.values[rows])


@overload
def mesa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    regularization: Tensor,
    forget: Tensor | None = ...,
    write: Tensor | None = ...,
    num_iterations: int = ...,
    tolerance: float | None = ...,
    chunk: int = ...,
    initial: MesaState | None = ...,
    lengths: Tensor | None = ...,
    return_state: Literal[False] = ...,
) -> Tensor: ...
@overload
def mesa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    regularization: Tensor,
    forget: Tensor | None = ...,
    write: Tensor | None = ...,
    num_iterations: int = ...,
    tolerance: float | None = ...,
    chunk: int = ...,
    initial: MesaState | None = ...,
    lengths: Tensor | None = ...,
    return_state: Literal[True],
) -> tuple[Tensor, MesaState]: ...
def mesa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    regularization: Tensor,
    forget: Tensor | None = None,
    write: Tensor | None = None,
    num_iterations: int = 30,
    tolerance: float | None = None,
    chunk: int = 64,
    initial: MesaState | None = None,
    lengths: Tensor | None = None,
    return_state: bool = False,
) -> Tensor | tuple[Tensor, MesaState]:
    """Compute the Mesa layer (von Oswald et al. 2025), causal, differentiable to any order.

    Derivatives are those of the exact least-squares solution, by implicit differentiation; where
    too few iterations leave the solution inexact, they are inexact as well.

    Args:
        q: Queries, ``[batch, heads, length, dim]``, floating point. A query of zeros gives zeros.
        k: Keys, ``[batch, heads, length, dim]``. Of length 1 (normalised) in the paper, as queries.
        v: Values, ``[batch, heads, length, value_dim]``.
        regularization: Lambda, ``[heads, dim]``, above 0; another number makes its head NaN.
        forget: Natural logarithms of the forget gates, ``[batch, heads, length]``, 0 or below: gate
            t multiplies the sums over the positions before t. Minus infinity, a gate of 0, forgets
            them exactly; None forgets nothing.
        write: Write gates, ``[batch, heads, length]``, 0 or above: the weight of a position. None
            is 1.
        num_iterations: Iterations of conjugate gradient at every position, at most, 1 or more;
            `dim` of them solve exactly, up to rounding.
        tolerance: Stop before that when every residual has fallen to this fraction of its query,
            above 0, both measured with component j divided by the root of entry j of the diagonal
            of H + diag(Lambda). None makes all iterations.
        chunk: Positions that are computed together, 1 or more; a matter of speed and memory only.
        initial: State before the first position; None for zeros.
        lengths: Valid positions of each row, ``[batch]`` integers; padding is on the right. Its
            outputs are zeros, and it does not change the state.
        return_state: Return the state after the last position too, to continue from.

    Returns:
        ``[batch, heads, length, value_dim]`` in the type of `q`, computed in float32 at least; with
        `return_state` also the final state.

    Raises:
        ShapeError: A tensor does not fit the others; the message names it.
        ConfigError: A number is out of range.

    >>> keys = torch.eye(2).view(1, 1, 2, 2)
    >>> values = torch.tensor([[[[3.0], [5.0]]]])
    >>> mesa(keys, keys, values, regularization=torch.ones(1, 2)).flatten().tolist()
    [1.5, 2.5]
    """
    if q.dim() == 4:
        _require("k", k, q, q.shape, "as q")
    check_tensors(q, k, v)
    _check_fit(q, v, regularization, forget, write, initial, lengths)
    for name, number in (("num_iterations", num_iterations), ("chunk", chunk)):
        if number < 1:
            raise ConfigError(f"{name}={number}: must be 1 or more.")
    if tolerance is not None and not tolerance > 0:
        raise ConfigError(f"tolerance={tolerance}: must be above 0, or None.")
    with torch.autocast(q.device.type, enabled=False):
        inputs = _prepare(q, k, v, forget, write, lengths)
        chunks = cut(*inputs, size=chunk_size(q.shape[2], chunk))
        starts, last = carry(chunks, _stack_state(initial, chunks))
        keys, values = split_state(starts)
        positive = torch.where(regularization > 0, regularization, float("nan")).to(chunks.k.dtype)
        systems = Systems(keys, chunks.decays, chunks.k, chunks.weights, positive[:, None, None, :])
        x = solve(systems, chunks.q, num_iterations=num_iterations, tolerance=tolerance)
        out = (x @ chunks.k.mT * chunks.weights) @ chunks.v  # of the positions of the same chunk
        out = out + (x * chunks.decays) @ values.mT  # [batch, heads, num_chunks, chunk, value_dim]
    out = out.flatten(2, 3)[:, :, : q.shape[2]].to(q.dtype)
    return (out, MesaState(*split_state(last))) if return_state else out


def _prepare(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    forget: Tensor | None,
    write: Tensor | None,
    lengths: Tensor | None,
) -> tuple[Tensor, ...]:
    """Cast, add missing gates, clear padding; all ``[batch or 1, heads or 1, length, ...]``."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    # Gates that are the same for all rows and heads are computed once.
    forget = q.new_zeros(1, 1, q.shape[2]) if forget is None else forget
    write = q.new_ones(1, 1, q.shape[2]) if write is None else write
    tensors = [x.to(dtype) for x in (q, k, v, forget.unsqueeze(-1), write.unsqueeze(-1))]
    if lengths is None:
        return tuple(tensors)
    padded = torch.arange(q.shape[2], device=q.device) >= lengths[:, None]  # [batch, length]
    return tuple(x.masked_fill(padded[:, None, :, None], 0.0) for x in tensors)


def _stack_state(initial: MesaState | None, chunks: Chunks) -> Tensor:
    """Stack H on G, ``[batch, heads, dim + value_dim, dim]``."""
    batch, heads, _, _, dim = chunks.k.shape
    if initial is None:
        return chunks.k.new_zeros(batch, heads, dim + chunks.v.shape[-1], dim)
    symmetric = (initial.keys + initial.keys.mT) / 2
    return torch.cat([symmetric, initial.values], dim=2).to(chunks.k.dtype)


def _check_fit(
    q: Tensor,
    v: Tensor,
    regularization: Tensor,
    forget: Tensor | None,
    write: Tensor | None,
    initial: MesaState | None,
    lengths: Tensor | None,
) -> None:
    """Check that the other tensors fit queries ``[batch, heads, length, dim]``, and the values."""
    (batch, heads, length, dim), value_dim = q.shape, v.shape[3]
    _require("regularization", regularization, q, (heads, dim), "[heads, dim]")
    for name, gate in (("forget", forget), ("write", write)):
        if gate is not None:
            _require(name, gate, q, (batch, heads, length), "[batch, heads, length]")
    if initial is not None:
        shape = (batch, heads, dim, dim)
        _require("initial.keys", initial.keys, q, shape, "[batch, heads, dim, dim]")
        shape = (batch, heads, value_dim, dim)
        _require("initial.values", initial.values, q, shape, "[batch, heads, value_dim, dim]")
    check_integers("lengths", lengths, (batch,), "one a row")


def _require(name: str, tensor: Tensor, q: Tensor, shape: tuple[int, ...], meaning: str) -> None:
    """Check that a tensor has a shape, and is floating point where q ``[batch, ...]`` is."""
    if tensor.shape != shape:
        raise ShapeError(
            f"{name} has shape {list(tensor.shape)}; expected {list(shape)}, {meaning}."
        )
    if not tensor.is_floating_point() or tensor.device != q.device:
        raise ShapeError(
            f"{name} is {tensor.dtype} on {tensor.device}; expected floating point on {q.device}."
        )
