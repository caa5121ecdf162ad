"""Where the blocks of a blockwise computation lie along the queries or the keys.

A tensor whose axis 1 is a length, ``[heads, length, dim]``, is cut into equally wide blocks,
``[blocks, heads, width, dim]``, and blocks are put back. Cutting out and adding back are adjoint to
each other, which is what makes a derivative of a blockwise computation blockwise again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class StridedBlocks:
    """Blocks at equal distances, overlapping where the step is below the width.

    Args:
        start: Position where the first begins.
        width: Length of each, 1 or more.
        num_blocks: How many, 1 or more.
        step: From the beginning of one to that of the next, 1 or more.
    """

    start: int
    width: int
    num_blocks: int = 1
    step: int = 1

    def take(self, tensor: Tensor) -> Tensor:
        """Return strided views ``[blocks, heads, width, dim]``: nothing is copied."""
        return self._view(tensor, 0, self.width)

    def add(self, total: Tensor, blocks: Tensor) -> None:
        """Add ``[blocks, heads, width, dim]``, by columns of one step, which do not overlap."""
        if self.num_blocks == 1:
            self._view(total, 0, self.width).add_(blocks)
            return
        for begin in range(0, self.width, self.step):
            end = min(begin + self.step, self.width)
            self._view(total, begin, end).add_(blocks[:, :, begin:end])

    def write(self, total: Tensor, blocks: Tensor) -> None:
        """Write ``[blocks, heads, width, dim]``; the step must not be below the width."""
        self._view(total, 0, self.width).copy_(blocks)

    def _view(self, tensor: Tensor, begin: int, end: int) -> Tensor:
        """Return columns begin to end of every block as a view."""
        if self.num_blocks == 1:
            return tensor[:, self.start + begin : self.start + end].unsqueeze(0)
        span = (self.num_blocks - 1) * self.step + end - begin
        rows = tensor.narrow(1, self.start + begin, span)
        # [heads, blocks, dim, width] -> [blocks, heads, width, dim]
        return rows.unfold(1, end - begin, self.step).permute(1, 0, 3, 2)

    def positions(self, device: torch.device) -> Tensor:
        """Return the positions, ``[blocks, width]``."""
        starts = torch.arange(self.num_blocks, device=device) * self.step + self.start
        return starts[:, None] + torch.arange(self.width, device=device)


@dataclass(frozen=True, eq=False)
class IndexedBlocks:
    """Any positions, listed.

    Args:
        index: ``[blocks, width]``. An array and not a tensor: plans are cached, and a tensor made
            within a `torch.func` transform must not outlive it.
    """

    index: NDArray[np.int64]

    @property
    def num_blocks(self) -> int:
        """How many."""
        return self.index.shape[0]

    @property
    def width(self) -> int:
        """Positions in each."""
        return self.index.shape[1]

    def take(self, tensor: Tensor) -> Tensor:
        """Return copies ``[blocks, heads, width, dim]``."""
        index = self.positions(tensor.device)
        rows = tensor.index_select(1, index.flatten())
        return rows.unflatten(1, index.shape).transpose(0, 1)

    def add(self, total: Tensor, blocks: Tensor) -> None:
        """Add ``[blocks, heads, width, dim]``."""
        index = self.positions(total.device).flatten()
        rows = blocks.transpose(0, 1).flatten(1, 2)
        total.index_add_(1, index, rows.to(total.dtype))

    def write(self, total: Tensor, blocks: Tensor) -> None:
        """Write ``[blocks, heads, width, dim]``."""
        index = self.positions(total.device).flatten()
        total[:, index] = blocks.transpose(0, 1).flatten(1, 2)

    def positions(self, device: torch.device) -> Tensor:
        """Return the positions, ``[blocks, width]``."""
        return torch.from_numpy(self.index).to(device)


BlockIndices = StridedBlocks | IndexedBlocks
"""The positions of blocks of equal width."""
