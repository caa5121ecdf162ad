"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): projections and heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from regard.attention import DotProduct, Full, Lengths, Pattern, T5Relative
from regard.errors import ConfigError
from regard.layers.cache import Cache, cache_for
from regard.layers.decoding_attention import (
    attend_everything,
    attend_with_bias,
    band_reach,
    may_attend_directly,
)
from regard.layers.layer import Description, describe_pattern
from regard.layers.linear import Linear
from regard.layers.positioned_cache import PositionedCache
from regard.layers.recorded_attention import RecordedAttention
from regard.option_checks import require_whole

if TYPE_CHECKING:
    from regard.layers.norm import LayerNorm, RMSNorm
    from regard.layers.relative_bias import RelativeBias
    from regard.layers.rotary import Rotary


class MultiHeadAttention(RecordedAttention):
    """The base of self- and cross-attention: heads, the call of `attend`, the output map.

    Args:
        dim: Size of the model.
        num_heads: Number of heads.
        pattern: Which positions may see which; causal where it is to be decoded.
        output_init_scale: Factor on the initial weights of the output map.
        head_dim: Size of a head; None is ``dim / num_heads``.
        bias: Whether the maps have biases.

    Raises:
        ConfigError: Heads of ``dim / num_heads`` do not exist.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        pattern: Pattern = Full(),  # noqa: B008 - an immutable value
        output_init_scale: float = 1.0,
        head_dim: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(pattern)
        require_whole("num_heads", num_heads, 1)
        if head_dim is None:
            require_whole("dim", dim, 1)
        else:
            require_whole("head_dim", head_dim, 1)
        if head_dim is None and dim % num_heads:
            raise ConfigError(
                f"dim must be a multiple of num_heads ({num_heads}), not {dim}; or set head_dim"
            )
        self.num_heads, self.head_dim = num_heads, head_dim or dim // num_heads
        self.output = Linear(
            num_heads * self.head_dim, dim, bias=bias, init_scale=output_init_scale
        )
        self.score = DotProduct()

    def _heads(self, x: Tensor, num_splits: int) -> tuple[Tensor, ...]:
        """Split ``[batch, length, splits * dim]`` into ``[batch, heads, length, head_dim]``."""
        split = x.unflatten(-1, (num_splits, -1, self.head_dim))
        return split.permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        lengths: Lengths,
        query_offset: int,
        key_positions: Tensor | None = None,
        position_bias: T5Relative | None = None,
    ) -> Tensor:
        """Attend, and map the output of all heads to ``[batch, queries, dim]``."""
        return self._join_heads(
            self.attend(
                q,
                k,
                v,
                score=self.score,
                bias=position_bias,
                lengths=lengths,
                query_offset=query_offset,
                key_positions=key_positions,
            )
        )

    def _join_heads(self, out: Tensor) -> Tensor:
        """Map ``[batch, heads, queries, head_dim]`` to ``[batch, queries, dim]``."""
        return self.output(out.transpose(1, 2).flatten(2))

    def describe(self) -> Description:
        """Return the heads and the pattern."""
        heads = f"{self.num_heads} heads of {self.head_dim}"
        kind = "cross-attention" if self.reads_source else "self-attention"
        return Description(kind, (heads, describe_pattern(self.pattern)))

    def flops(self, length: int) -> int:
        """Count the maps, and scores and sums of values by the pairs of the pattern."""
        pairs = self.pattern.cost(length, length, dim=self.head_dim)
        return super().flops(length) + self.num_heads * pairs.flops


class SelfAttention(MultiHeadAttention):
    """Attention of a sequence over itself.

    Args:
        dim: Size of the model.
        num_heads: Number of heads.
        pattern: Which positions may see which; causal where it is to be decoded.
        output_init_scale: Factor on the initial weights of the output map.
        head_dim: Size of a head; None is ``dim / num_heads``.
        bias: Whether the maps have biases.
        num_kv_heads: Heads of keys and values, a divisor of `num_heads`: each serves the same
            number of queries (Ainslie et al. 2023); None is `num_heads`.
        rotary: Rotates queries and keys by their positions; None does not.
        qkv_bias: Whether the maps to queries, keys and values have biases; None is `bias`.
        query_norm: Normalises each head of the queries before it is rotated, or all heads together
            where it has their joint size; None does not.
        key_norm: Normalises the keys, the same.
        score: Score of a query and a key.

    Raises:
        ConfigError: Heads of these numbers and sizes do not exist.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        pattern: Pattern = Full(),  # noqa: B008 - an immutable value
        output_init_scale: float = 1.0,
        head_dim: int | None = None,
        bias: bool = True,
        num_kv_heads: int | None = None,
        rotary: Rotary | None = None,
        qkv_bias: bool | None = None,
        query_norm: LayerNorm | RMSNorm | None = None,
        key_norm: LayerNorm | RMSNorm | None = None,
        score: DotProduct = DotProduct(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(
            dim,
            num_heads,
            pattern=pattern,
            output_init_scale=output_init_scale,
            head_dim=head_dim,
            bias=bias,
        )
        self.rotary, self.query_norm, self.key_norm = rotary, query_norm, key_norm
        self.score = score
        self.position_bias: RelativeBias | None = None
        """Added to the scores by the distance of query and key, where set; layers may share it."""
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        require_whole("num_kv_heads", self.num_kv_heads, 1)
        if num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_kv_heads must divide num_heads ({num_heads}), not {self.num_kv_heads}"
            )
        if rotary is not None:
            num_rotated = rotary.num_rotated(self.head_dim)
            if num_rotated < 2 or num_rotated % 2:
                part = "size" if rotary.fraction == 1 else "rotated part"
                raise ConfigError(
                    f"heads must have an even {part} with rotary positions, not {num_rotated}"
                )
        width = num_heads * self.head_dim
        bias = bias if qkv_bias is None else qkv_bias
        if self.is_grouped:
            self.query = Linear(dim, width, bias=bias)
            shared = 2 * self.num_kv_heads * self.head_dim
            self.key_value = Linear(dim, shared, bias=bias, num_splits=2)
        else:
            self.query_key_value = Linear(dim, 3 * width, bias=bias, num_splits=3)

    @property
    def is_grouped(self) -> bool:
        """Whether several heads of queries share those of keys and values."""
        return self.num_kv_heads != self.num_heads

    def forward(
        self,
        x: Tensor,
        *,
        lengths: Tensor | None = None,
        cache: Cache | PositionedCache | None = None,
    ) -> Tensor:
        """Attend within ``x``, ``[batch, length, dim]``, and the cached positions before it.

        Args:
            x: The new positions.
            lengths: Valid positions of each row, ``[batch]``; None means all.
            cache: Keys and values of the positions before; the new ones are added.

        Returns:
            Same shape as `x`.
        """
        q, k, v = self.project(x)
        if isinstance(cache, PositionedCache):
            if self.rotary is not None:
                q, k = (self.rotary(part, cache.positions) for part in (q, k))
            return self._join_heads(
                cache.attend(q, k, v, score=self.score, position_bias=self.position_bias)
            )
        query_offset = 0 if cache is None else len(cache)
        if self.rotary is not None:
            positions = torch.arange(query_offset, query_offset + x.shape[1], device=x.device)
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        key_positions = None
        if cache is not None:
            k, v = cache.append(k, v)
            key_positions = cache.positions
            if x.shape[1] == 1 and lengths is None and self._sees_all(k.shape[2]):
                return self._join_heads(self._attend_as_last(q, k, v, query_offset, key_positions))
        # Padded positions give zeros, as queries too.
        of_both = None if lengths is None else (lengths if query_offset == 0 else None, lengths)
        position_bias = self.position_bias
        return self._attend(
            *(q, k, v),
            lengths=of_both,
            query_offset=query_offset,
            key_positions=key_positions,
            position_bias=None if position_bias is None else position_bias.function(q.dtype),
        )

    def _attend_as_last(
        self, q: Tensor, k: Tensor, v: Tensor, position: int, key_positions: Tensor | None
    ) -> Tensor:
        """Attend from the last position, which sees all keys.

        Args:
            q: ``[batch, heads, 1, head_dim]``.
            k: ``[batch, kv_heads, keys, head_dim]``.
            v: As `k`.
            position: Of the query.
            key_positions: Positions of the keys, ``[keys]``; None is 0, 1, ...

        Returns:
            Same shape as `q`.
        """
        if self.position_bias is None:
            return attend_everything(q, k, v, score=self.score)
        if key_positions is None:
            key_positions = torch.arange(k.shape[2], device=k.device)
        positions = torch.full((1,), position, device=k.device)
        bias = self.position_bias.of_queries(positions, key_positions)
        return attend_with_bias(q, k, v, bias, score=self.score)

    def make_cache(self) -> Cache:
        """Return an empty cache, the smallest that decoding by the pattern needs."""
        return cache_for(self.pattern)

    def _sees_all(self, num_keys: int) -> bool:
        """Return whether a last position sees itself and all cached keys, and needs no record."""
        reach = band_reach(self.pattern)
        is_reached = reach is None or num_keys - 1 <= reach
        return is_reached and self.on_attention is None and may_attend_directly()

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``[batch, length, dim]`` to queries, keys and values without rotary positions.

        Queries and keys are normalised where the layer normalises them.

        Args:
            x: ``[batch, length, dim]``.

        Returns:
            ``[batch, heads, length, head_dim]``, of keys and values ``kv_heads``.
        """
        if self.is_grouped:
            (q,) = self._heads(self.query(x), 1)
            k, v = self._heads(self.key_value(x), 2)
        else:
            q, k, v = self._heads(self.query_key_value(x), 3)
        if self.query_norm is not None:
            q = _normalize_heads(q, self.query_norm)
        if self.key_norm is not None:
            k = _normalize_heads(k, self.key_norm)
        return q, k, v

    def describe(self) -> Description:
        """Return the heads, the pattern, norms of heads, scores and positions of its own."""
        heads, pattern = super().describe().facts
        grouped = (f"{self.num_kv_heads} of keys and values",) if self.is_grouped else ()
        has_norms = self.query_norm is not None or self.key_norm is not None
        norms = ("norms of queries and keys",) if has_norms else ()
        cap = () if self.score.soft_cap is None else (f"scores within {self.score.soft_cap:g}",)
        rotary = ()
        if self.rotary is not None:
            part = "" if self.rotary.fraction == 1 else f" on {self.rotary.fraction:g} of a head"
            rotary = (f"rotary positions{part}",)
        relative = () if self.position_bias is None else ("relative positions",)
        facts = (heads, *grouped, pattern, *norms, *cap, *rotary, *relative)
        return Description("self-attention", facts)


def _normalize_heads(x: Tensor, norm: LayerNorm | RMSNorm) -> Tensor:
    """Normalise ``[batch, heads, length, head_dim]`` by head, or all heads of a position."""
    if len(norm.weight) == x.shape[-1]:
        return norm(x)
    normed = norm(x.transpose(1, 2).flatten(2))  # [batch, length, heads * head_dim]
    return normed.unflatten(2, (-1, x.shape[-1])).transpose(1, 2)


class CrossAttention(MultiHeadAttention):
    """Attention of one sequence over another.

    Args:
        dim: Size of the model.
        num_heads: Number of heads.
        pattern: Which query positions may see which key positions.
        output_init_scale: Factor on the initial weights of the output map.
        head_dim: Size of a head; None is ``dim / num_heads``.
        bias: Whether the maps have biases.
    """

    reads_source = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        pattern: Pattern = Full(),  # noqa: B008 - an immutable value
        output_init_scale: float = 1.0,
        head_dim: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(
            dim,
            num_heads,
            pattern=pattern,
            output_init_scale=output_init_scale,
            head_dim=head_dim,
            bias=bias,
        )
        width = num_heads * self.head_dim
        self.query = Linear(dim, width, bias=bias)
        self.key_value = Linear(dim, 2 * width, bias=bias, num_splits=2)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[batch, keys, dim]`` to keys and values, ``[batch, heads, keys, head_dim]``."""
        keys, values = self._heads(self.key_value(memory), 2)
        return keys, values

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        lengths: Tensor | None = None,
        query_offset: int = 0,
    ) -> Tensor:
        """Attend over projected memory.

        Args:
            x: Queries, ``[batch, queries, dim]``. Several rows in succession, the same number for
                each row of the memory, may read it.
            keys: From `project`.
            values: From `project`.
            lengths: Valid keys of each row of the memory; None means all.
            query_offset: Position of the first query.

        Returns:
            Same shape as `x`.
        """
        # Sizes by `shape`: `len` would fix the batch of an exported graph.
        num_readers = x.shape[0] // keys.shape[0] if keys.shape[0] else 1
        is_direct = self.on_attention is None and may_attend_directly()
        if x.shape[1] == 1 and isinstance(self.pattern, Full) and is_direct:
            # The rows of one source are queries of the same position.
            (q,) = self._heads(self.query(x).unflatten(0, (-1, num_readers)).squeeze(2), 1)
            return self._join_heads(
                attend_everything(q, keys, values, lengths, score=self.score)
            ).flatten(0, 1)[:, None]
        if num_readers > 1:
            keys, values = (part.repeat_interleave(num_readers, 0) for part in (keys, values))
            lengths = None if lengths is None else lengths.repeat_interleave(num_readers)
        (q,) = self._heads(self.query(x), 1)
        return self._attend(q, keys, values, lengths=lengths, query_offset=query_offset)
