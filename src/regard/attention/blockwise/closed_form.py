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
from regard.attention.blockwise.tiling import BlockInputs, BlockSlice
from regard.attention.dense import masked_softmax


@dataclass(frozen=True, eq=False)
class DotProductBlock:
    """A `BlockAttention` whose derivatives are known: no bias, no soft cap, no dropout.

    Args:
        function: Computes the value.
        scale: Factor on the dot products.
    """

    function: BlockAttention
    scale: float

    def __call__(self, block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute output and log-sum-exp."""
        return self.function(block_slice, blocks)

    def vjp(self, wanted: tuple[int, ...]) -> BlockFunction:
        """Give the block function of the cotangents of the wanted of q, k and v."""
        return DotProductGradient(self, wanted)

    def read(self, blocks: tuple[Tensor, ...]) -> tuple[BlockInputs[Tensor], tuple[Tensor, Tensor]]:
        """Name the inputs of the value, and return the rows of g and c that follow them."""
        g, c = (_rows(block) for block in blocks[-2:])
        return self.function.specs.unflatten(blocks[:-2]), (g, c)

    def weights(self, block_slice: BlockSlice, inputs: BlockInputs[Tensor]) -> Tensor:
        """Compute P, ``[blocks, rows, keys]``."""
        q, k = inputs.q, inputs.k
        scores = torch.bmm(_rows(q) * self.scale, k.squeeze(1).transpose(1, 2))
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        mask = self.function.mask(block_slice, inputs)
        if mask is not None:
            mask = mask.expand(-1, q.shape[1], q.shape[2], -1).flatten(1, 2)
        return masked_softmax(scores, mask)


@dataclass(frozen=True, eq=False)
class DotProductGradient:
    """The cotangents of q, k and v; its inputs are those of the value, then g and c.

    Args:
        block: The value.
        wanted: Which of 0 (q), 1 (k) and 2 (v), in order.
    """

    block: DotProductBlock
    wanted: tuple[int, ...]

    def __call__(self, block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute what is wanted of dq, dk and dv, shaped as q, k and v."""
        inputs, (g, c) = self.block.read(blocks)
        q, k, v = inputs.q, inputs.k, inputs.v
        weights = self.block.weights(block_slice, inputs)
        d_weights = torch.bmm(g, v.squeeze(1).transpose(1, 2)).to(weights.dtype)
        mean = (weights * d_weights).sum(-1, keepdim=True)
        d_scores = (weights * (d_weights + (c - mean)) * self.block.scale).to(q.dtype)
        found = (
            lambda: _blocks(torch.bmm(d_scores, k.squeeze(1)), q),
            lambda: torch.bmm(d_scores.transpose(1, 2), _rows(q)).unsqueeze(1),
            lambda: torch.bmm(weights.to(v.dtype).transpose(1, 2), g).unsqueeze(1),
        )
        return tuple(found[i]() for i in self.wanted)

    def vjp(self, wanted: tuple[int, ...]) -> BlockFunction:
        """Give the block function of the cotangents of the wanted inputs."""
        return DotProductSecond(self, wanted)


@dataclass(frozen=True, eq=False)
class DotProductSecond:
    """The cotangents of the gradient's inputs.

    Its inputs are those of the gradient, then cotangents of what the gradient was wanted of.

    Args:
        gradient: What it is the derivative of.
        wanted: Which of the gradient's inputs.
    """

    gradient: DotProductGradient
    wanted: tuple[int, ...]

    def __call__(self, block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute what is wanted, each shaped as its input."""
        count = len(blocks) - len(self.gradient.wanted)
        block = self.gradient.block
        inputs, (g, c) = block.read(blocks[:count])
        x, y, z = self._cotangents(blocks)
        q, k, v = _rows(inputs.q), inputs.k.squeeze(1), inputs.v.squeeze(1)
        scale = block.scale
        weights = block.weights(block_slice, inputs)
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
        found = {
            0: lambda: _blocks(torch.bmm(g_matrix, k) + torch.bmm(d_scores, y), inputs.q),
            1: lambda: (
                torch.bmm(g_matrix.transpose(1, 2), q) + torch.bmm(d_scores.transpose(1, 2), x)
            ).unsqueeze(1),
            2: lambda: torch.bmm(e.transpose(1, 2), g).unsqueeze(1),
            count - 2: lambda: _blocks(torch.bmm(e, v) + torch.bmm(weights, z), blocks[count - 2]),
            count - 1: lambda: _blocks(a, blocks[count - 1]),
        }
        return tuple(found[i]() for i in self.wanted)

    def _cotangents(self, blocks: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Give x, y and z, zeros where the gradient was not wanted."""
        given = dict(zip(self.gradient.wanted, blocks[-len(self.gradient.wanted) :], strict=True))
        x, y, z = (given.get(i, torch.zeros_like(blocks[i])) for i in range(3))
        return _rows(x), y.squeeze(1), z.squeeze(1)


def _rows(block: Tensor) -> Tensor:
    """Fold the heads that share keys into the rows: ``[blocks, heads * queries, dim]``."""
    return block.flatten(1, 2)


def _blocks(rows: Tensor, like: Tensor) -> Tensor:
    """Undo `_rows`: ``[blocks, heads, queries, dim]``."""
    return rows.unflatten(1, like.shape[1:3])
