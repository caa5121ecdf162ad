"""Attention of a decoder over the source with one head, from before the Transformer.

Additive (Bahdanau, Cho & Bengio 2015, "Neural Machine Translation by Jointly Learning to Align and
Translate", appendix A.1.2) and multiplicative (Luong, Pham & Manning 2015, "Effective Approaches to
Attention-based Neural Machine Translation", equation 8: dot, general). The values are the encoder's
states themselves. Cost: queries x keys x dim; the additive score also holds as many numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regard.attention import (
    Additive,
    DotProduct,
    Full,
    Pattern,
    ScoreFunction,
)
from regard.layers.cache import is_identity, shared_sources
from regard.layers.initialization import fill_normal
from regard.layers.layer import Description, describe_pattern
from regard.layers.linear import Linear
from regard.layers.recorded_attention import RecordedAttention

Memory = tuple[Tensor, Tensor]
"""Keys and values of the source, ``[batch, keys, dim]`` each."""


class Seq2SeqAttention(RecordedAttention):
    """One head of dot products ``s . h``, not scaled, without any map of its own.

    Args:
        dim: Size of decoder and encoder states.
        pattern: Which target positions may see which source positions.
    """

    reads_source = True
    score_name = "dot"

    def __init__(self, dim: int, pattern: Pattern = Full()) -> None:  # noqa: B008 - immutable
        super().__init__(pattern)
        self.dim = dim

    def forward(
        self,
        queries: Tensor,
        memory: Memory,
        *,
        lengths: Tensor | None = None,
        query_offset: int = 0,
    ) -> Tensor:
        """Attend over the source.

        Args:
            queries: ``[batch, queries, dim]``.
            memory: Keys and values, ``[batch, keys, dim]`` each, from `project` where there is one.
            lengths: Valid keys of each row, ``[batch]``; None means all.
            query_offset: Position of the first query.

        Returns:
            Contexts, ``[batch, queries, value_dim]``.
        """
        q, k, v = (tensor[:, None] for tensor in (self._map(queries), *memory))
        out = self.attend(
            q, k, v, score=self._score(q.dtype), lengths=lengths, query_offset=query_offset
        )
        return out[:, 0]

    def describe(self) -> Description:
        """Return the score and the pattern."""
        facts = (f"1 head, {self.score_name}", describe_pattern(self.pattern))
        return Description("cross-attention", facts)

    def flops(self, length: int) -> int:
        """Count one head; an additive score costs as much a pair as a dot product."""
        return super().flops(length) + self.pattern.cost(length, length, dim=self.dim).flops

    def _map(self, queries: Tensor) -> Tensor:
        return queries  # [batch, queries, dim]

    def _score(self, dtype: torch.dtype) -> ScoreFunction:  # noqa: ARG002
        return DotProduct(scale=1.0)


class BahdanauAttention(Seq2SeqAttention):
    """``v_a . tanh(W_a s + U_a h)``; W_a and U_a are maps of this layer.

    Args:
        dim: Size of decoder and encoder states.
        pattern: Which target positions may see which source positions.
    """

    reads_last_step = True
    score_name = "additive"

    def __init__(self, dim: int, pattern: Pattern = Full()) -> None:  # noqa: B008 - immutable
        super().__init__(dim, pattern)
        self.query = Linear(dim, dim)
        self.key = Linear(dim, dim, bias=False)
        self.weight = nn.Parameter(fill_normal(torch.empty(1, dim), dim**-0.5))

    def project(self, states: Tensor) -> Memory:
        """Map the encoder's states ``[batch, keys, dim]`` to keys; they are the values."""
        return self.key(states), states

    def _map(self, queries: Tensor) -> Tensor:
        return self.query(queries)  # [batch, queries, dim]

    def _score(self, dtype: torch.dtype) -> ScoreFunction:
        return Additive(self.weight.to(dtype))


class LuongAttention(Seq2SeqAttention):
    """``s . h`` (dot) or ``s . W_a h`` (general).

    Args:
        dim: Size of decoder and encoder states.
        pattern: Which target positions may see which source positions.
        is_general: Whether there is a map W_a.
    """

    def __init__(
        self,
        dim: int,
        pattern: Pattern = Full(),  # noqa: B008 - an immutable value
        *,
        is_general: bool = True,
    ) -> None:
        super().__init__(dim, pattern)
        self.score_name = "general" if is_general else "dot"
        self.key = Linear(dim, dim, bias=False) if is_general else nn.Identity()

    def project(self, states: Tensor) -> Memory:
        """Map the encoder's states ``[batch, keys, dim]`` to keys; they are the values."""
        return self.key(states), states


@dataclass(kw_only=True)
class Seq2SeqState:
    """The source as a decoder sees it between two tokens.

    Rows in succession, such as the beams of a sentence, share one source, which is held once.

    Args:
        memory: Keys and values of the sources, ``[sources, keys, dim]``; None without attention.
        lengths: Valid positions of each source, ``[sources]``; None means all.
        position: Position of the next token.
        readers: Number of rows of each source.
    """

    memory: Memory | None
    lengths: Tensor | None
    position: int = 0
    readers: int = 1

    def attend(self, attention: Seq2SeqAttention, queries: Tensor) -> Tensor:
        """Attend over the source with queries ``[batch, queries, dim]``, the next positions."""
        assert self.memory is not None
        memory, lengths, readers = self.memory, self.lengths, self.readers
        if readers == 1:
            return attention(queries, memory, lengths=lengths, query_offset=self.position)
        is_full = isinstance(attention.pattern, Full)
        if queries.shape[1] == 1 and is_full and attention.on_attention is None:
            # The rows of one source are queries of the same position.
            together = queries.unflatten(0, (-1, readers)).squeeze(2)
            contexts = attention(together, memory, lengths=lengths)
            return contexts.flatten(0, 1)[:, None]
        keys, values = (part.repeat_interleave(readers, 0) for part in memory)
        return attention(
            queries, (keys, values), lengths=self.row_lengths, query_offset=self.position
        )

    @property
    def row_lengths(self) -> Tensor | None:
        """Valid positions of the source of each row, ``[batch]``; None means all."""
        return None if self.lengths is None else self.lengths.repeat_interleave(self.readers)

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        sources, self.readers = shared_sources(rows // self.readers)
        if self.memory is not None:
            keys, values = self.memory
            if is_identity(sources, len(keys)):
                return
            self.memory = keys.index_select(0, sources), values.index_select(0, sources)
        if self.lengths is not None:
            self.lengths = self.lengths.index_select(0, sources)
