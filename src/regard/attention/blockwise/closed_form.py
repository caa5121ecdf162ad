"""First and second derivative of dot-product attention in closed form, as block functions.

With ``P = softmax(scale q k^T)``, ``o = P v`` and cotangents g of o and c of the log-sum-exp:

    D_P = g v^T,  T = D_P - rowsum(P * D_P) + c,  D_S = P * T,
    dq = scale D_S k,  dk = scale D_S^T q,  dv = P^T g                    (five matrix products)

and with cotangents x, y, z of dq, dk, dv:

    A = scale (x k^T + q y^T),  a = rowsum(P * A),  E = P * (A - a),
    F = g z^T + A * T - a * D_P,  G = P * (F - rowsum(P * F)),
    q: scale (G k + D_S y),  k: scale (G^T q + D_S^T x),  v: E^T g,  g: E v + P z,  c: a

These need fewer products than what automatic differentiation of the value would do. All are plain
differentiable operations: higher derivatives are taken of them automatically.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.blockwise.any_order import BlockFunction
from regard.attention.blockwise.block_attention import BlockAttention
from regard.attention.blockwise.tiling import BlockInputs, BlockSlice, fold_rows, unfold_rows
from regard.attention.dense import masked_softmax


@dataclass(frozen=True, eq=False)
class DotProductBlock:
    """A `BlockAttention` with closed derivatives: no bias, no soft cap, no dropout.

    Args:
        function: Computes the value.
        scale: Factor on the dot products.
    """

    function: BlockAttention
    scale: float

    def __call__(self, block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute ``out [blocks, heads, queries, value_dim]`` and ``lse [.., queries, 1]``."""
        return self.function(block_slice, blocks)

    def vjp(self, indices: tuple[int, ...]) -> BlockFunction:
        """Return the block function of the cotangents of some of q, k and v."""
        return DotProductGradient(self, indices)

    def read(self, blocks: tuple[Tensor, ...]) -> tuple[BlockInputs[Tensor], Tensor, Tensor]:
        """Return the inputs of the value by name, and g and c, ``[blocks, rows, dim or 1]``."""
        g, c = (fold_rows(block) for block in blocks[-2:])  # [blocks, rows, dim], [blocks, rows, 1]
        return self.function.specs.unflatten(blocks[:-2]), g, c

    def weights(self, block_slice: BlockSlice, inputs: BlockInputs[Tensor]) -> Tensor:
        """Compute P, ``[blocks, rows, keys]``."""
        q, k = inputs.q, inputs.k
        scores = torch.bmm(fold_rows(q) * self.scale, k.squeeze(1).transpose(1, 2))
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # [blocks, rows, keys]
        mask = self.function.mask(block_slice, inputs)
        if mask is not None:
            mask = mask.expand(-1, q.shape[1], q.shape[2], -1).flatten(1, 2)
        return masked_softmax(scores, mask)


@dataclass(frozen=True, eq=False)
class DotProductGradient:
    """The cotangents of q, k and v; its inputs are those of the value, then g and c.

    Args:
        block: The value.
        indices: Which of 0 (q), 1 (k) and 2 (v), in order.
    """

    block: DotProductBlock
    indices: tuple[int, ...]

    def __call__(self, block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute some of dq ``[blocks, heads, queries, dim]``, dk, dv ``[blocks, 1, keys, d]``."""
        inputs, g, c = self.block.read(blocks)
        q, k, v = inputs.q, inputs.k, inputs.v
        weights = self.block.weights(block_slice, inputs)
        d_weights = torch.bmm(g, v.squeeze(1).transpose(1, 2)).to(weights.dtype)
        mean = (weights * d_weights).sum(-1, keepdim=True)
        d_scores = (weights * (d_weights + (c - mean)) * self.block.scale).to(q.dtype)
        formulas = (
            lambda: unfold_rows(torch.bmm(d_scores, k.squeeze(1)), q),
            lambda: torch.bmm(d_scores.transpose(1, 2), fold_rows(q)).unsqueeze(1),
            lambda: torch.bmm(weights.to(v.dtype).transpose(1, 2), g).unsqueeze(1),
        )
        return tuple(formulas[i]() for i in self.indices)

    def vjp(self, indices: tuple[int, ...]) -> BlockFunction:
        """Return the block function of the cotangents of some of its inputs."""
        return DotProductSecond(self, indices)


@dataclass(frozen=True, eq=False)
class DotProductSecond:
    """The cotangents of the gradient's inputs.

    Its inputs are those of the gradient, then the cotangents of what the gradient computes.

    Args:
        gradient: What it is the derivative of.
        indices: Which of the gradient's inputs.
    """

    gradient: DotProductGradient
    indices: tuple[int, ...]

    def __call__(self, block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute some cotangents, each ``[blocks, heads or 1, length, dim]`` like its input."""
        count = len(blocks) - len(self.gradient.indices)
        block = self.gradient.block
        inputs, g, c = block.read(blocks[:count])
        cotangents = dict(zip(self.gradient.indices, blocks[count:], strict=True))
        # Zeros where the gradient does not compute it.
        x, y, z = (cotangents.get(i, torch.zeros_like(blocks[i])) for i in range(3))
        x, y, z = fold_rows(x), y.squeeze(1), z.squeeze(1)  # [blocks, rows, dim], then keys
        q, k, v = fold_rows(inputs.q), inputs.k.squeeze(1), inputs.v.squeeze(1)
        scale = block.scale
        weights = block.weights(block_slice, inputs)  # [blocks, rows, keys], and so on
        d_weights = torch.bmm(g, v.transpose(1, 2)).to(weights.dtype)
        t = d_weights + (c - (weights * d_weights).sum(-1, keepdim=True))
        both = torch.bmm(torch.cat([x, q], -1), torch.cat([k, y], -1).transpose(1, 2))
        a_matrix = both.to(weights.dtype) * scale
        a = (weights * a_matrix).sum(-1, keepdim=True)
        f = torch.bmm(g, z.transpose(1, 2)).to(weights.dtype) + a_matrix * t - a * d_weights
        narrow = q.dtype
        e = (weights * (a_matrix - a)).to(narrow)
        g_matrix = (weights * (f - (weights * f).sum(-1, keepdim=True)) * scale).to(narrow)
        d_scores = (weights * t * scale).to(narrow)
        weights = weights.to(narrow)
        formulas = {
            0: lambda: unfold_rows(torch.bmm(g_matrix, k) + torch.bmm(d_scores, y), inputs.q),
            1: lambda: (
                torch.bmm(g_matrix.transpose(1, 2), q) + torch.bmm(d_scores.transpose(1, 2), x)
            ).unsqueeze(1),
            2: lambda: torch.bmm(e.transpose(1, 2), g).unsqueeze(1),
            count - 2: lambda: unfold_rows(
                torch.bmm(e, v) + torch.bmm(weights, z), blocks[count - 2]
            ),
            count - 1: lambda: unfold_rows(a, blocks[count - 1]),
        }
        return tuple(formulas[i]() for i in self.indices)
