"""Processes that share the work on matrices, of which each has all numbers, or some rows.

Matrices in rows are those of FSDP2 (`DTensor`, ``Shard(0)``), cut as `torch.chunk` cuts them. A
process gathers those that it works on and sends the results back by rows: each number is sent twice
at most, however many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, int]
"""Rows and columns of a whole matrix."""


@dataclass(frozen=True)
class MatrixSharing:
    """What processes exchange that share matrices; all call these functions at the same time.

    Args:
        index: Of this process, from 0.
        num_processes: All of them.
        exchange: Takes one flat tensor for each process, of which this one has filled its own, and
            fills the others with what their processes have.
        all_to_all: Takes one flat tensor for each process, and how many numbers each of them sends
            here; returns what they have sent.
    """

    index: int
    num_processes: int
    exchange: Callable[[Sequence[Tensor]], None]
    all_to_all: Callable[[Sequence[Tensor], Sequence[int]], Sequence[Tensor]]

    def gather(
        self, parts: Sequence[Sequence[Tensor]], shapes: Sequence[Shape], template: Tensor
    ) -> list[Tensor]:
        """Return whole matrices, of which every process has some rows.

        Args:
            parts: This process's rows of the matrices that each process gets,
                ``[processes][matrices]``.
            shapes: Of the matrices that this process gets.
            template: A tensor of their type and device.

        Returns:
            The matrices of this process, ``[rows, columns]`` each.
        """
        counts = [[self._numel(shape, r) for shape in shapes] for r in range(self.num_processes)]
        received = self.all_to_all(_flatten(parts, template), list(map(sum, counts)))
        pieces = [flat.split(sizes) for flat, sizes in zip(received, counts, strict=True)]
        rows = zip(*pieces, strict=True)  # [matrices][processes]
        return [torch.cat(own).view(shape) for own, shape in zip(rows, shapes, strict=True)]

    def scatter(
        self, matrices: Sequence[Tensor], shapes: Sequence[Sequence[Shape]], template: Tensor
    ) -> list[list[Tensor]]:
        """Return this process's rows of the matrices of all processes.

        Args:
            matrices: Those of this process, ``[rows, columns]`` each.
            shapes: Of the matrices of each process, ``[processes][matrices]``.
            template: A tensor of their type and device.

        Returns:
            Rows of each matrix, ``[processes][matrices]``, ``[own rows, columns]`` each.
        """
        ranks = range(self.num_processes)
        sent = [[matrix[self.rows(len(matrix), r)] for matrix in matrices] for r in ranks]
        counts = [[self._numel(shape, self.index) for shape in part] for part in shapes]
        received = self.all_to_all(_flatten(sent, template), list(map(sum, counts)))
        return [
            [rows.view(-1, shape[1]) for rows, shape in zip(flat.split(sizes), part, strict=True)]
            for flat, sizes, part in zip(received, counts, shapes, strict=True)
        ]

    def rows(self, num_rows: int, rank: int) -> slice:
        """Return the rows that a process has of a matrix.

        >>> sharing = MatrixSharing(0, 3, print, print)
        >>> [sharing.rows(7, rank) for rank in range(3)]
        [slice(0, 3, None), slice(3, 6, None), slice(6, 7, None)]
        """
        size = -(-num_rows // self.num_processes)
        return slice(min(rank * size, num_rows), min((rank + 1) * size, num_rows))

    def _numel(self, shape: Shape, rank: int) -> int:
        """Return how many numbers of a matrix a process has."""
        rows = self.rows(shape[0], rank)
        return (rows.stop - rows.start) * shape[1]


def _flatten(parts: Sequence[Sequence[Tensor]], template: Tensor) -> list[Tensor]:
    """Return the numbers of each part one after the other, ``[parts]``; a part may be empty."""
    nothing = template.new_empty(0)
    return [torch.cat([nothing, *(matrix.reshape(-1) for matrix in part)]) for part in parts]
