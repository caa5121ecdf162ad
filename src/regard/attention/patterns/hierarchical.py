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

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention.dense import AttentionOutput, repeat_heads
from regard.attention.patterns.arguments import parse_causal_number, require_whole
from regard.attention.patterns.base import ScoreDependentPattern
from regard.attention.patterns.cost import PairCount
from regard.attention.patterns.drawing import ALLOWED, FORBIDDEN
from regard.attention.scores import DotProduct, dim_scale
from regard.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from regard.attention.options import AttentionOptions


@dataclass(frozen=True, repr=False)
class Hierarchical(ScoreDependentPattern):
    """Lets each query see near keys exactly and far ones through averages; self-attention only.

    Args:
        block: Positions in a block, even, 2 or more (half a block of groups is a finer block).
        causal: See only the keys with ``j <= i``.

    Raises:
        ConfigError: `block` is odd or below 2.
    """

    block: int
    causal: bool = field(default=False, kw_only=True)

    synopsis: ClassVar[str] = "hierarchical:B"
    text_form: ClassVar[str] = "hierarchical:B (positions in a block), e.g. hierarchical:64"
    reason: ClassVar[str] = "averages distant keys"

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", require_whole(self, self.block))  # it is frozen
        if self.block < 2 or self.block % 2:
            raise ConfigError(
                f"Hierarchical(block={self.block}): the block must be even, 2 or more."
            )

    @classmethod
    def from_text(cls, arguments: str | None, *, is_decoder: bool) -> Self:
        """Read ``B`` or ``B,causal``; in a decoder both are causal."""
        block, is_causal = parse_causal_number(arguments, cls.text_form)
        return cls(block, causal=is_causal or is_decoder)

    def to_text(self) -> str:
        """Write ``hierarchical:B`` or ``hierarchical:B,causal``."""
        return f"hierarchical:{self.block}" + (",causal" if self.causal else "")

    def level(self, query: int, key: int) -> int | None:
        """Return the level at which a query sees a key.

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

    def count_pairs(self, num_queries: int, num_keys: int) -> PairCount:
        """Count the scored pairs, those of averages included.

        Args:
            num_queries: Number of queries.
            num_keys: The same number.

        Returns:
            The pairs: level by level, the product of the groups in each two (half) blocks.

        Raises:
            ShapeError: The numbers differ.
        """
        if num_queries != num_keys:
            raise ShapeError(
                f"{self!r} is self-attention; expected as many queries as keys, "
                f"got {num_queries} and {num_keys}."
            )
        total = 0
        for level in range(_num_levels(num_keys, self.block)):
            size = self.block if level == 0 else self.block // 2
            columns = _split(-(-num_keys // 2**level), size)
            rows = _split(num_keys, size * 2**level) if self.causal else columns
            for i, num_rows in enumerate(rows):
                adjacent = (i - 1, i, i + 1)
                if level:  # half blocks at distance 2 or 3, in adjacent blocks
                    adjacent = (i - 2, i + 2, i - 3 if i % 2 else i + 3)
                for j in adjacent:
                    if self.causal and j == i:
                        total += num_rows * (num_rows + 1) // 2
                    elif 0 <= j < len(columns) and (j < i or not self.causal):
                        total += num_rows * columns[j]
        return PairCount(total, scored=total)

    def cells(self, num_positions: int) -> list[str]:
        """Return the picture's rows: ``■`` for an exact pair, else the digit of its level."""
        marks = f"{ALLOWED}123456789"
        rows = []
        for query in range(num_positions):
            levels = (self.level(query, key) for key in range(num_positions))
            rows.append("".join(FORBIDDEN if x is None else marks[min(x, 9)] for x in levels))
        return rows

    def attend(self, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions) -> AttentionOutput:
        """Compute the output; q, k and v are ``[batch, heads or kv_heads, length, dim]``."""
        score = options.score
        is_plain = isinstance(score, DotProduct) and score.soft_cap is None
        refused = {
            "another score than DotProduct() without soft_cap": not is_plain,
            "bias": options.bias is not None,
            "segments": options.segments is not None,
            "query_offset": options.query_offset != 0,
            "key_positions": options.key_positions is not None,
            "dropout": options.dropout > 0,
            f"{q.shape[2]} queries with {k.shape[2]} keys": q.shape[2] != k.shape[2],
        }
        for name, is_set in refused.items():
            if is_set:
                raise ConfigError(
                    f"{self!r} averages keys and does not go with {name}.  "
                    "Every mask pattern does, such as Local(...)."
                )
        scale = score.scale if isinstance(score, DotProduct) else None
        out = hierarchical_attention(
            q,
            repeat_heads(k, q.shape[1]),
            repeat_heads(v, q.shape[1]),
            block=self.block,
            causal=self.causal,
            scale=dim_scale(q) if scale is None else scale,
            lengths=options.lengths,
            mask=options.mask,
        )
        return AttentionOutput(out)  # [batch, heads, length, value_dim]

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
        causal: See only the keys with ``j <= i``.
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
    block = min(block, max(2, length + length % 2))  # of any size; beyond the length it is exact
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
            sums = [x.unflatten(2, (-1, 2)).sum(3) for x in sums]  # [batch, heads, groups, dim]
            counts = [x.unflatten(2, (-1, 2)).sum(3) for x in counts]
        queries = fine if causal else sums[0] / counts[0].clamp(min=1) * scale
        if pairs is None:
            near, mixed = (x / counts[1].clamp(min=1) for x in sums[1:])  # means of groups
            levels.append(_attend_level(queries, near, mixed, counts[1], block, level, causal))
        else:
            levels.append(_attend_pairs(queries, keys, values, pairs, block, level, causal))
    return _combine_levels(levels)[:, :, :length].masked_fill(~valid, 0.0).to(q.dtype)


class _PartialSoftmax(NamedTuple):
    """What one level contributes to the softmax over all levels, for every padded position.

    Args:
        numerator: ``[batch, heads, length, value_dim]``.
        denominator: ``[batch, heads, length, 1]``.
        highest: Logarithm of their common factor, ``[batch, heads, length, 1]``.
    """

    numerator: Tensor
    denominator: Tensor
    highest: Tensor


def _combine_levels(levels: list[_PartialSoftmax]) -> Tensor:
    """Normalise over all levels, ``[batch, heads, length, value_dim]``; 0 if nothing is seen."""
    highest = torch.stack([level.highest for level in levels]).amax(0)
    factors = [(level.highest - _finite(highest)).exp() for level in levels]
    zero = highest.new_zeros(())
    numerator = sum((x.numerator * f for x, f in zip(levels, factors, strict=True)), start=zero)
    denominator = sum((x.denominator * f for x, f in zip(levels, factors, strict=True)), start=zero)
    return numerator / denominator.masked_fill(denominator == 0, 1.0)


def _attend_pairs(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    allowed: Tensor,
    block: int,
    level: int,
    causal: bool,
) -> _PartialSoftmax:
    """Attend to one level where every query has averages of its own, by all pairs.

    The score of an average is the average of the scores, and a group's weight is shared equally by
    its allowed members.

    Args:
        queries: Averaged unless causal, scaled, ``[batch, heads, rows, dim]``.
        keys: ``[batch, heads, length, dim]``.
        values: ``[batch, heads, length, value_dim]``.
        allowed: ``[batch, heads, length, length]`` or 1 each of the first two, boolean.
        block: Positions in a block.
        level: Level of the groups, 2^level positions each.
        causal: Whether queries are not averaged.

    Returns:
        What the level contributes.
    """
    length, size = keys.shape[2], 2**level
    scores = torch.matmul(queries, keys.transpose(-1, -2))  # [batch, heads, rows, length]
    scores = _repeat(scores, 1 if causal else size)  # [batch, heads, length, length]
    members = allowed.to(scores.dtype)
    count = members.unflatten(3, (-1, size)).sum(4)  # [.., length, groups]
    groups = (scores * members).unflatten(3, (-1, size)).sum(4) / count.clamp(min=1)
    position = torch.arange(length, device=keys.device)
    levels = _levels(position[:, None], position[::size], block, causal)  # [length, groups]
    is_seen = (count > 0) & (levels == level)
    groups = (groups + count.clamp(min=1).log()).masked_fill(~is_seen, -torch.inf)
    highest = groups.detach().amax(-1, keepdim=True)
    exponentials = (groups - _finite(highest)).exp()
    weights = (exponentials / count.clamp(min=1)).repeat_interleave(size, dim=3) * members
    numerator = torch.matmul(weights, values)
    return _PartialSoftmax(numerator, exponentials.sum(-1, keepdim=True), highest)


def _levels(queries: Tensor, keys: Tensor, block: int, causal: bool) -> Tensor:
    """Return the levels of queries ``[length, 1]`` and keys ``[groups]``; -1 where not seen."""
    distance = (queries // block - keys // block).abs()
    level = torch.zeros_like(distance)
    rows, columns = queries // block, keys // block
    for _ in range((len(queries) // block).bit_length()):
        rows, columns = rows // 2, columns // 2
        level = level + (distance > 1)
        distance = torch.where(distance > 1, (rows - columns).abs(), distance)
    return level.masked_fill(keys > queries, -1) if causal else level  # [length, groups]


def _attend_level(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    count: Tensor,
    block: int,
    level: int,
    causal: bool,
) -> _PartialSoftmax:
    """Attend to the adjacent blocks of one level that no finer level covers.

    Args:
        queries: Averaged unless causal, scaled, ``[batch, heads, rows, dim]``.
        keys: Averages, ``[batch, heads, groups, dim]``.
        values: Averages, ``[batch, heads, groups, value_dim]``.
        count: Allowed members of each group, ``[batch, heads, groups, 1]``.
        block: Groups in a block.
        level: Level of the groups, 2^level positions each.
        causal: Whether queries are not averaged.

    Returns:
        What the level contributes.
    """
    offsets = [-1, 0, 1] if level == 0 else [-1, 1]  # of adjacent blocks
    if causal:
        offsets.pop()  # no block after the queries

    def adjacent(x: Tensor) -> Tensor:
        """Concatenate adjacent blocks of ``[batch, heads, groups, dim]``, zeros beyond the ends."""
        blocks = x.unflatten(2, (-1, block))  # [batch, heads, blocks, block, dim]
        shifted = [F.pad(blocks, (0, 0, 0, 0, -offset, offset)) for offset in offsets]
        return torch.cat(shifted, dim=3)  # [batch, heads, blocks, offsets * block, dim]

    rows = queries.unflatten(2, (keys.shape[2] // block, -1))  # [batch, heads, blocks, rows, dim]
    # An empty group counts log(0) = -inf, which takes it out of the softmax.
    scores = torch.matmul(rows, adjacent(keys).mT) + adjacent(count).log().mT
    belongs = _belongs(rows.shape[3], block, level, offsets, causal, scores.device)
    scores = scores.masked_fill(~belongs, -torch.inf)
    # The result does not depend on the shift, so its derivative is rightly left out.
    highest = scores.detach().amax(-1, keepdim=True)
    exponentials = (scores - _finite(highest)).exp()
    numerator = torch.matmul(exponentials, adjacent(values))
    parts = (numerator, exponentials.sum(-1, keepdim=True), highest)
    repeats = 1 if causal else 2**level  # an averaged query answers for its group
    return _PartialSoftmax(*(_repeat(part.flatten(2, 3), repeats) for part in parts))


def _belongs(
    num_rows: int, block: int, level: int, offsets: list[int], causal: bool, device: torch.device
) -> Tensor:
    """Return which pairs of adjacent blocks belong to a level, ``[rows, offsets * block]``."""
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


def _repeat(x: Tensor, repeats: int) -> Tensor:
    """Repeat each position: ``[batch, heads, n, dim]`` to ``[batch, heads, n * repeats, dim]``."""
    return x.unsqueeze(3).expand(-1, -1, -1, repeats, -1).flatten(2, 3)


def _finite(highest: Tensor) -> Tensor:
    """Return the shift of the exponents: 0 where nothing is seen, ``[..., 1]``."""
    return highest.masked_fill(highest == -torch.inf, 0.0)


def _num_levels(length: int, block: int) -> int:
    """Count the levels until two blocks are left, which are adjacent."""
    num_blocks = max(-(-length // block), 1)
    return max((num_blocks - 1).bit_length(), 1)


def _split(total: int, size: int) -> list[int]:
    """Split a total into parts of `size`, the last one shorter."""
    return [min(size, total - start) for start in range(0, total, size)]
