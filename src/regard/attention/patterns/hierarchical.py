"""Hierarchical attention: exact near, coarser and coarser far away.

H-Transformer-1D (Zhu & Soricut 2021, section 6; the structure of hierarchical matrices). Positions
are cut into blocks of `block`. A query sees the keys of its own and the two adjacent blocks
exactly. At level l = 1, 2, ... keys are averaged and values summed over groups of 2^l, and the
blocks adjacent at that level (`block` groups each) are seen through them, except where a finer
level has covered the pair. So a pair's level is the first one at which its blocks touch, and one
softmax runs over all levels, in which a group counts once for each member.

Without `causal` the queries are averaged at level l too, as in the paper: O(n block) time and
memory. With `causal` they are not, because the average of a group would show its earlier queries
its later ones; every level costs the same then: O(n block log(n / block)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention.patterns.arguments import parse_causal_number
from regard.attention.patterns.base import ScoreDependentPattern
from regard.attention.patterns.cost import Cost
from regard.attention.patterns.drawing import ALLOWED, FORBIDDEN, Format, check_num_positions, draw
from regard.errors import ConfigError, ShapeError


@dataclass(frozen=True, repr=False)
class Hierarchical(ScoreDependentPattern):
    """Lets each query see near keys exactly and far ones through averages; self-attention only.

    Args:
        block: Positions in a block, even, 2 or more (half a block of groups is a finer block).
        causal: See only what stands at ``j <= i``.

    Raises:
        ConfigError: `block` is odd or below 2.
    """

    block: int
    causal: bool = False

    synopsis: ClassVar[str] = "hierarchical:B"
    text_form: ClassVar[str] = "hierarchical:B (positions in a block), e.g. hierarchical:64"
    reason: ClassVar[str] = "averages distant keys"

    def __init__(self, block: int, *, causal: bool = False) -> None:
        if block < 2 or block % 2:
            raise ConfigError(f"Hierarchical(block={block}): the block must be even, 2 or more.")
        object.__setattr__(self, "block", block)  # the class is frozen
        object.__setattr__(self, "causal", causal)

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Self:
        """Read ``B`` or ``B,causal``; in a decoder both are causal."""
        block, is_causal = parse_causal_number(arguments, cls.text_form)
        return cls(block, causal=is_causal or is_decoder)

    def to_text(self) -> str:
        """Write ``hierarchical:B`` or ``hierarchical:B,causal``."""
        return f"hierarchical:{self.block}" + (",causal" if self.causal else "")

    def level(self, query: int, key: int) -> int | None:
        """Tell the level at which a query sees a key.

        Args:
            query: Position of the query, 0 or more.
            key: Position of the key, 0 or more.

        Returns:
            0 where it sees the key itself, l where the key's group of 2^l, None where neither.
        """
        if self.causal and key > query:
            return None
        level, query, key = 0, query // self.block, key // self.block
        while abs(query - key) > 1:
            level, query, key = level + 1, query // 2, key // 2
        return level

    def cost(
        self,
        queries: int,
        keys: int,
        *,
        dim: int = 64,
        value_dim: int | None = None,
        itemsize: int = 4,
    ) -> Cost:
        """Count the pairs of queries and keys, averaged ones included, that are scored.

        Args:
            queries: Number of queries.
            keys: Number of keys, as many.
            dim: Size of a query and of a key.
            value_dim: Size of a value; None for `dim`.
            itemsize: Bytes of a number, 4 for float32.

        Returns:
            The cost.

        Raises:
            ShapeError: The numbers differ.
        """
        if queries != keys:
            raise ShapeError(
                f"{self!r} is self-attention; expected as many queries as keys, "
                f"got {queries} and {keys}."
            )
        pairs = _count_pairs(queries, self.block, self.causal)
        return Cost.of(pairs, queries, keys, dim=dim, value_dim=value_dim, itemsize=itemsize)

    def show(self, num_positions: int = 24, *, format: Format = "text") -> str:  # noqa: A002
        """Draw the level of each pair, queries down and keys across: ``■`` exact, else its digit.

        Args:
            num_positions: Number of queries and of keys, 1 or more.
            format: ``"text"`` or ``"svg"``.

        Returns:
            The picture.

        Raises:
            ConfigError: An argument is out of range.
        """
        check_num_positions(num_positions)
        positions = range(num_positions)
        rows = ["".join(_mark(self.level(i, j)) for j in positions) for i in positions]
        return draw(rows, title=repr(self), format=format)

    def __repr__(self) -> str:
        return f"Hierarchical({self.block}{', causal=True' if self.causal else ''})"


def hierarchical_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    block: int,
    causal: bool,
    scale: float,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Compute hierarchical attention, as the module defines it, in differentiable operations.

    Args:
        q: Queries, ``[batch, heads, length, dim]``, floating point.
        k: Keys, ``[batch, heads, length, dim]``.
        v: Values, ``[batch, heads, length, value_dim]``.
        block: Positions in a block, even, 2 or more.
        causal: See only what stands at ``j <= i``.
        scale: Factor on the scores, ``1 / sqrt(dim)`` in the paper.
        lengths: Valid positions of each row, ``[batch]`` integers, padded on the right. Averages
            run over valid positions; the others get zeros.
        mask: Boolean, ``[batch, heads, queries, keys]`` or 1 each, True where allowed: the averages
            of keys that a query sees run over those allowed to it. With one row for all queries the
            cost stays linear; else it is O(n^2) for each level, in time and memory.

    Returns:
        ``[batch, heads, length, value_dim]``, exact attention where ``length <= 2 * block``.
    """
    length = q.shape[2]
    valid = torch.ones(1, 1, length, 1, dtype=torch.bool, device=q.device)
    if lengths is not None:
        valid = (torch.arange(length, device=q.device) < lengths[:, None])[:, None, :, None]
    is_allowed = valid  # keys, [batch, heads, length, 1]
    if mask is not None and mask.shape[2] == 1:
        is_allowed = valid & mask.expand(-1, -1, -1, length).transpose(2, 3)
    num_levels = _num_levels(length, block)
    padding = block * 2 ** (num_levels if length > block else 0) - length
    # Sums over up to 2^l members need single precision or better.
    dtype = torch.promote_types(q.dtype, torch.float32)

    def pad(x: Tensor, is_member: Tensor) -> Tensor:
        return F.pad(x.to(dtype).masked_fill(~is_member, 0.0), (0, 0, 0, padding))

    sums = [pad(q, valid), pad(k, is_allowed), pad(v, is_allowed)]
    # Valid queries of a group, and its allowed keys.
    counts = [F.pad(x.to(dtype), (0, 0, 0, padding)) for x in (valid, is_allowed)]
    pairs = None
    if mask is not None and mask.shape[2] > 1:
        pairs = (mask & valid.transpose(2, 3)).expand(-1, -1, length, length)
        pairs = F.pad(pairs, (0, padding, 0, padding))
    levels = []
    fine, keys, values = sums[0] * scale, sums[1], sums[2]
    for level in range(num_levels):
        if level:
            sums = [x.unflatten(2, (-1, 2)).sum(3) for x in sums]
            counts = [x.unflatten(2, (-1, 2)).sum(3) for x in counts]
        queries = fine if causal else sums[0] / counts[0].clamp(min=1) * scale
        if pairs is not None:
            levels.append(_attend_pairs(queries, keys, values, pairs, block, level, causal))
            continue
        means = [x / counts[1].clamp(min=1) for x in sums[1:]]
        levels.append(_attend_level(queries, means[0], means[1], counts[1], block, level, causal))
    output = _join_levels(levels)[:, :, :length]
    return output.masked_fill(~valid, 0.0).to(q.dtype)


def _attend_pairs(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    allowed: Tensor,
    block: int,
    level: int,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend to one level where every query has averages of its own, by all pairs.

    The score of an average is the average of the scores, and a group's weight is shared equally by
    its allowed members.

    Args:
        queries: Averaged unless causal, scaled, ``[batch, heads, rows, dim]``.
        keys: ``[batch, heads, length, dim]``, as the values.
        values: ``[batch, heads, length, value_dim]``.
        allowed: ``[batch, heads, length, length]`` or 1 each of the first two, boolean.
        block: Positions in a block.
        level: Of the groups, 2^level positions each.
        causal: Whether queries are not averaged.

    Returns:
        As `_attend_level`.
    """
    length, size = keys.shape[2], 2**level
    scores = torch.matmul(queries, keys.transpose(-1, -2))  # [batch, heads, rows, length]
    scores = _repeat(scores, 1 if causal else size)  # [batch, heads, length, length]
    members = allowed.to(scores.dtype)
    count = members.unflatten(3, (-1, size)).sum(4)  # [.., length, groups]
    groups = (scores * members).unflatten(3, (-1, size)).sum(4) / count.clamp(min=1)
    position = torch.arange(length, device=keys.device)
    levels = _levels(position[:, None], position[::size], block, causal)
    is_seen = (count > 0) & (levels == level)
    groups = (groups + count.clamp(min=1).log()).masked_fill(~is_seen, -torch.inf)
    highest = groups.detach().amax(-1, keepdim=True)
    exponentials = (groups - _finite(highest)).exp()
    weights = (exponentials / count.clamp(min=1)).repeat_interleave(size, dim=3) * members
    return torch.matmul(weights, values), exponentials.sum(-1, keepdim=True), highest


def _levels(queries: Tensor, keys: Tensor, block: int, causal: bool) -> Tensor:
    """Return `Hierarchical.level` of positions that broadcast; -1 where a key is not seen."""
    distance = (queries // block - keys // block).abs()
    level = torch.zeros_like(distance)
    rows, columns = queries // block, keys // block
    for _ in range((len(queries) // block).bit_length()):
        rows, columns = rows // 2, columns // 2
        level = level + (distance > 1)
        distance = torch.where(distance > 1, (rows - columns).abs(), distance)
    return level.masked_fill(keys > queries, -1) if causal else level


def _attend_level(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    count: Tensor,
    block: int,
    level: int,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend to the adjacent blocks of one level that no finer level covers.

    Returns:
        Numerator, denominator and the logarithm of their common factor, for every padded position:
        ``[batch, heads, length, value_dim]``, then ``[..., 1]`` twice.
    """
    num_blocks = keys.shape[2] // block
    offsets = _offsets(level, causal)
    rows = queries.unflatten(2, (num_blocks, -1))  # [batch, heads, blocks, rows, dim]
    near = _adjacent(keys.unflatten(2, (num_blocks, block)), offsets)
    mixed = _adjacent(values.unflatten(2, (num_blocks, block)), offsets)
    members = _adjacent(count.unflatten(2, (num_blocks, block)), offsets)  # [.., width, 1]
    # An empty group counts log(0) = -inf, which takes it out of the softmax.
    scores = torch.matmul(rows, near.transpose(-1, -2)) + members.log().transpose(-1, -2)
    belongs = _belongs(rows.shape[3], block, level, offsets, causal, scores.device)
    scores = scores.masked_fill(~belongs, -torch.inf)
    # The result does not depend on the shift, so its derivative is rightly left out.
    highest = scores.detach().amax(-1, keepdim=True)
    exponentials = (scores - _finite(highest)).exp()
    parts = (torch.matmul(exponentials, mixed), exponentials.sum(-1, keepdim=True), highest)
    repeats = 1 if causal else 2**level  # an averaged query answers for its group
    numerator, denominator, highest = (_repeat(part.flatten(2, 3), repeats) for part in parts)
    return numerator, denominator, highest


def _join_levels(levels: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Normalise over all levels at once; a query that sees nothing gets zeros."""
    highest = torch.stack([level[2] for level in levels]).amax(0)
    factors = [(level[2] - _finite(highest)).exp() for level in levels]
    numerator = sum(level[0] * factor for level, factor in zip(levels, factors, strict=True))
    denominator = sum(level[1] * factor for level, factor in zip(levels, factors, strict=True))
    assert isinstance(numerator, Tensor) and isinstance(denominator, Tensor)  # one level at least
    return numerator / denominator.masked_fill(denominator == 0, 1.0)


def _belongs(
    num_rows: int, block: int, level: int, offsets: list[int], causal: bool, device: torch.device
) -> Tensor:
    """Tell which pairs of adjacent blocks belong to a level, ``[rows, offsets * block]``."""
    row = torch.arange(num_rows, device=device)[:, None] * block // num_rows  # in groups
    column = torch.arange(block, device=device)[None, :]
    masks = []
    for offset in offsets:
        if level == 0:
            masks.append((column + offset * block <= row) | (not causal))
        else:  # halves are the blocks of the finer level, which covers those that touch
            half = block // 2
            touches = (row // half - (column // half + 2 * offset)).abs() <= 1
            masks.append(~touches)
    return torch.cat(masks, dim=1)


def _offsets(level: int, causal: bool) -> list[int]:
    """List the adjacent blocks that a level looks at, relative to the query's own."""
    near = [-1, 0, 1] if level == 0 else [-1, 1]
    return [offset for offset in near if offset <= 0 or not causal]


def _adjacent(blocks: Tensor, offsets: list[int]) -> Tensor:
    """Lay each block's neighbours side by side, zeros beyond the ends.

    ``[batch, heads, blocks, block, dim]`` to ``[batch, heads, blocks, offsets * block, dim]``.
    """
    shifted = [F.pad(blocks, (0, 0, 0, 0, -offset, offset)) for offset in offsets]
    return torch.cat(shifted, dim=3)


def _repeat(x: Tensor, repeats: int) -> Tensor:
    """Repeat each position: ``[batch, heads, n, dim]`` to ``[batch, heads, n * repeats, dim]``."""
    return x.unsqueeze(3).expand(-1, -1, -1, repeats, -1).flatten(2, 3)


def _finite(highest: Tensor) -> Tensor:
    """Shift by nothing where nothing is seen."""
    return highest.masked_fill(highest == -torch.inf, 0.0)


def _num_levels(length: int, block: int) -> int:
    """Levels until two blocks are left: all of them touch."""
    num_blocks = max(-(-length // block), 1)
    return max((num_blocks - 1).bit_length(), 1)


def _count_pairs(length: int, block: int, causal: bool) -> int:
    """Count the scored pairs, level by level, from the number of groups in each (half) block."""
    total = 0
    for level in range(_num_levels(length, block)):
        size = block if level == 0 else block // 2
        groups = _fill(-(-length // 2**level), size)
        rows = _fill(length, size * 2**level) if causal else groups
        for number, count in enumerate(rows):
            for other in _partners(number, level):
                if 0 <= other < len(groups) and (other <= number or not causal):
                    is_own = causal and other == number
                    total += count * (count + 1) // 2 if is_own else count * groups[other]
    return total


def _partners(number: int, level: int) -> tuple[int, ...]:
    """List the (half) blocks that one sees: at distance 2 or 3, in adjacent blocks."""
    if level == 0:
        return (number - 1, number, number + 1)
    return (number - 2, number + 2, number - 3 if number % 2 else number + 3)


def _fill(total: int, size: int) -> list[int]:
    """Cut a total into parts of `size`, the last one shorter."""
    return [min(size, total - start) for start in range(0, total, size)]


def _mark(level: int | None) -> str:
    if level is None:
        return FORBIDDEN
    return str(min(level, 9)) if level else ALLOWED
