"""Block-sparse attention: by a table, blocks of queries see blocks of keys.

Child et al. 2019 (section 5.4) and BigBird (Zaheer et al. 2020, section 2 and appendix D), whose
random blocks `Blocks.random` draws. Cost: size^2 pairs for each True cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.attention.exporting import is_recording
from regard.attention.patterns.arguments import parse_numbers, require_whole
from regard.attention.patterns.base import LengthDependentPattern, MaskPattern
from regard.attention.patterns.mask_algebra import MaskTerm
from regard.errors import ConfigError


@dataclass(frozen=True, init=False, repr=False)
class Blocks(MaskPattern):
    """Allows the pairs with ``mask[i // size][j // size]``, and none outside the table.

    Args:
        mask: ``[query_blocks, key_blocks]``, truth values: nested sequences or a boolean tensor.
        size: Positions in a block, 1 or more.

    Raises:
        ConfigError: The size is below 1, or the table is empty or its rows differ in length.
    """

    mask: tuple[tuple[bool, ...], ...]
    size: int
    packed: str = field(init=False, compare=False)  # numbers of rows, columns, size and the bits
    _table: NDArray[np.bool_] = field(init=False, compare=False)
    _hash: int = field(init=False, compare=False)

    def __init__(self, mask: Tensor | Iterable[Iterable[bool]], size: int) -> None:
        rows = mask.tolist() if isinstance(mask, Tensor) else mask
        table = tuple(tuple(bool(cell) for cell in row) for row in rows)
        size = require_whole(f"Blocks(size={size!r})", size)
        _check(table, size)
        object.__setattr__(self, "mask", table)  # the class is frozen
        object.__setattr__(self, "size", size)
        # An array and not a tensor: see `IndexedBlocks`. Large tables are hashed often.
        object.__setattr__(self, "_table", np.array(table, dtype=np.bool_))
        object.__setattr__(self, "_hash", hash((table, size)))
        packed = np.packbits(np.array(table, dtype=np.bool_)).tobytes().hex()
        object.__setattr__(self, "packed", f"{len(table)},{len(table[0])},{size},{packed}")

    @classmethod
    def unpack(cls, packed: str) -> Blocks:
        """Read what `packed` of an equal pattern is."""
        rows, columns, size, bits = packed.split(",")
        shape = (int(rows), int(columns))
        cells = np.unpackbits(np.frombuffer(bytes.fromhex(bits), dtype=np.uint8))
        table = cells[: shape[0] * shape[1]].reshape(shape).astype(bool)
        return cls(table.tolist(), int(size))

    @classmethod
    def random(
        cls, num_query_blocks: int, num_key_blocks: int, size: int, *, per_row: int, seed: int
    ) -> Blocks:
        """Draw the key blocks of each row (BigBird's random attention).

        Args:
            num_query_blocks: Rows of the table, 1 or more.
            num_key_blocks: Columns of the table, 1 or more.
            size: Positions in a block, 1 or more.
            per_row: Key blocks in a row, 1 to `num_key_blocks`. The row's own block on the diagonal
                is one of them, where it exists.
            seed: Seed of the draw; equal seeds give equal patterns.

        Returns:
            The pattern.

        Raises:
            ConfigError: An argument is out of range.
        """
        if not 1 <= per_row <= num_key_blocks:
            raise ConfigError(
                f"Blocks.random(per_row={per_row}): it must be 1 to {num_key_blocks}, "
                "the number of key blocks."
            )
        generator = torch.Generator("cpu").manual_seed(seed)
        mask = torch.zeros(num_query_blocks, num_key_blocks, dtype=torch.bool, device="cpu")
        for row in range(num_query_blocks):
            priority = torch.rand(num_key_blocks, generator=generator, device="cpu")
            if row < num_key_blocks:
                priority[row] = 1.0  # above every draw: rand is below 1
            mask[row, priority.topk(per_row).indices] = True
        return cls(mask, size)

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which pairs may attend; ``[queries, 1]`` and ``[1, keys]`` broadcast."""
        if is_recording():  # Dynamo keeps no numbers of an array of NumPy's
            table = torch.tensor(self.mask, device=queries.device)
        else:
            table = torch.from_numpy(self._table).to(queries.device, non_blocking=True)
        rows = queries // self.size
        columns = keys // self.size
        has_row = (rows >= 0) & (rows < table.shape[0])
        has_column = (columns >= 0) & (columns < table.shape[1])
        # An index outside the table looks anywhere inside it; the answer is discarded.
        cells = table[rows.clamp(0, table.shape[0] - 1), columns.clamp(0, table.shape[1] - 1)]
        return cells & has_row & has_column  # [queries, keys]

    def terms(self) -> tuple[MaskTerm, ...]:
        """Return one block table."""
        return (MaskTerm(blocks=(self,)),)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        num_allowed = sum(map(sum, self.mask))
        shape = f"{len(self.mask)} x {len(self.mask[0])}"
        return f"Blocks(<{shape} blocks, {num_allowed} allowed>, size={self.size})"


@dataclass(frozen=True)
class RandomBlocks(LengthDependentPattern):
    """`Blocks.random` with as many blocks as the length needs (BigBird, Zaheer et al. 2020).

    Args:
        size: Positions in a block, 1 or more.
        per_row: Key blocks that a block of queries sees, its own among them, 1 or more; all where
            there are fewer.
        seed: Seed of the draw, 0 or more.

    Raises:
        ConfigError: A number is out of range.

    >>> RandomBlocks(4, 2).resolve(10, 10)
    Blocks(<3 x 3 blocks, 6 allowed>, size=4)
    """

    size: int
    per_row: int
    seed: int = 0

    synopsis: ClassVar[str] = "random:SIZE:COUNT"
    text_form: ClassVar[str] = (
        "random:SIZE:COUNT or random:SIZE:COUNT:SEED (positions in a block, blocks that each "
        "sees), e.g. random:64:3"
    )

    def __post_init__(self) -> None:
        for name in ("size", "per_row", "seed"):
            number = require_whole(self, getattr(self, name))
            object.__setattr__(self, name, number)  # the class is frozen
        if self.size < 1 or self.per_row < 1 or self.seed < 0:
            raise ConfigError(
                f"RandomBlocks(size={self.size}, per_row={self.per_row}, seed={self.seed}): size "
                "and per_row must be 1 or more, seed 0 or more."
            )

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Self:  # noqa: ARG003
        """Read ``SIZE:COUNT`` or ``SIZE:COUNT:SEED``; the seed is 0 where it is left out."""
        return cls(*parse_numbers(arguments, cls.text_form, counts=(2, 3), separator=":"))

    def to_text(self) -> str:
        """Write ``random:SIZE:COUNT:SEED``."""
        return f"random:{self.size}:{self.per_row}:{self.seed}"

    def resolve(self, num_queries: int, num_keys: int) -> Blocks:
        """Draw the table; more queries add rows and change none.

        Returns:
            The table with its blocks.

        Raises:
            ConfigError: ``torch.export`` traces, and would write every draw into the program.
        """
        if torch.compiler.is_dynamo_compiling():
            torch._dynamo.graph_break(msg=self._refusal("one full graph"))
        elif is_recording():
            raise ConfigError(self._refusal("an exported program"))
        rows, columns = (max(1, -(-length // self.size)) for length in (num_queries, num_keys))
        return _draw(rows, columns, self)

    def _refusal(self, program: str) -> str:
        return (
            f"{self.to_text()} draws its blocks for a length, which {program} cannot hold.  "
            "Resolve it first: .resolve(num_queries, num_keys)."
        )


@lru_cache(maxsize=64)
def _draw(rows: int, columns: int, pattern: RandomBlocks) -> Blocks:
    """Draw a table; those of a few lengths are cached, as every layer and step asks again."""
    per_row = min(pattern.per_row, columns)
    with torch._C._DisableFuncTorch():  # `torch.vmap` would refuse to draw
        return Blocks.random(rows, columns, pattern.size, per_row=per_row, seed=pattern.seed)


def _check(table: Sequence[Sequence[bool]], size: int) -> None:
    if size < 1:
        raise ConfigError(f"Blocks(size={size}): the size must be 1 or more.")
    lengths = sorted({len(row) for row in table})
    if not lengths or lengths == [0]:
        raise ConfigError("Blocks(mask=[]): the table must have a row and a column or more.")
    if len(lengths) > 1:
        raise ConfigError(
            f"Blocks(mask=...): its rows have {lengths[0]} to {lengths[-1]} cells; "
            "all must have as many."
        )
