"""Longformer (Beltagy, Peters & Cohan, "Longformer: The Long-Document Transformer", 2020).

RoBERTa for long texts: a token sees a window around itself; the first tokens are global: through
linear maps of their own they see all tokens and are seen by all. Cost of a pass, linear in the
length: O(length (window + global tokens) dim + length dim^2) a layer.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

import msgspec
import torch
from torch import Tensor

from regard.attention import Full, Local, Pattern, saved_bytes
from regard.attention.exporting import is_recording
from regard.attention.readable import is_vmapped
from regard.layers.attention_config import AttentionConfig
from regard.layers.longformer_attention import LongformerAttention
from regard.models.base.encoder import Encoder, EncoderConfig
from regard.models.base.pattern_support import check_patterns
from regard.settings.validation import require_at_least

_LONG_QUESTION = 64  # tokens, for the memory of global attention


class LongformerConfig(
    EncoderConfig, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="longformer"
):
    """The dimensions of a Longformer.

    Args:
        max_positions: Longest text, in tokens; those after it count as the last.
        position_offset: Rows of the position table before the first token's.
        num_segments: Kinds of segments; 0 has no table of them.
        window: Tokens that a token sees, half of them on either side, even; a list has one number
            for each layer. A pattern other than full in attention.pattern replaces it.
        num_global: Tokens at the beginning that see all tokens and are seen by all: 1 for
            classification (the paper, section 3.1), 0 for none.
        question_end_id: Token that ends a question: in each row all tokens before the first such
            are global, as the paper has it for answers; None has the first `num_global`.
    """

    max_positions: int = 4096
    position_offset: int = 1  # RoBERTa's: after the padding's
    num_segments: int = 1
    window: int | tuple[int, ...] = 512
    num_global: int = 1
    question_end_id: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for size in self.windows():
            if size < 2 or size % 2:
                raise ValueError(f"window must be even and 2 or more, not {size}")
        if len(self.windows()) != self.num_layers:
            raise ValueError(
                f"window must be one number or one for each of {self.num_layers} layers, "
                f"not {len(self.windows())}"
            )
        require_at_least(0, self, "num_global", "question_end_id")

    def windows(self) -> tuple[int, ...]:
        """Return the window of each layer."""
        return (self.window,) * self.num_layers if isinstance(self.window, int) else self.window

    def for_single_texts(self) -> Self:
        """Return the configuration without global questions."""
        return msgspec.structs.replace(self, question_end_id=None)

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        windows = " / ".join(str(size) for size in dict.fromkeys(self.windows()))
        num_global = "questions" if self.question_end_id is not None else self.num_global
        return f"{super().summary(attention)}, window {windows}, {num_global} global"

    def patterns(self, attention: AttentionConfig) -> list[Pattern]:
        """Return the pattern of each layer, without its global tokens.

        >>> LongformerConfig(num_layers=1, window=8).patterns(AttentionConfig())
        [Local(before=4, after=4)]
        """
        return [
            Local(size // 2, size // 2) if isinstance(pattern, Full) else pattern
            for pattern, size in zip(
                attention.encoder_patterns(self.num_layers), self.windows(), strict=True
            )
        ]


class Longformer(Encoder):
    """The encoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids.
        attention: The pattern of each layer; full is the window of `config`.
    """

    def __init__(
        self,
        config: LongformerConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        check_patterns(config, attention, lacks="decoder")
        mixers = (
            LongformerAttention(
                config.dim, config.num_heads, pattern=pattern, num_global=config.num_global
            )
            for pattern in config.patterns(attention)
        )
        super().__init__(config, vocab_size, mixers)
        self.question_end_id = config.question_end_id
        self.num_global = config.num_global if config.question_end_id is None else _LONG_QUESTION

    def hidden_states(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return the last hidden states, ``[batch, length, dim]``; see `Encoder`.

        Rows with questions of one length are computed together; where ids cannot be read, as in an
        exported graph, all rows are, over all pairs.
        """
        if self.question_end_id is None:
            return super().hidden_states(ids, segments=segments, lengths=lengths, features=features)
        is_before = (ids == self.question_end_id).cumsum(1) == 0
        if is_recording() or is_vmapped():
            with ExitStack() as stack:
                for layer in self.global_layers:
                    stack.enter_context(layer.global_rows(is_before))
                return super().hidden_states(
                    ids, segments=segments, lengths=lengths, features=features
                )
        counts = is_before.sum(1)  # global tokens of each row, [batch]
        indices, states = [], []
        for count in counts.unique().tolist():
            (rows,) = (counts == count).nonzero(as_tuple=True)
            with ExitStack() as stack:
                for layer in self.global_layers:
                    stack.enter_context(layer.global_tokens(count))
                part = super().hidden_states(
                    ids[rows],
                    segments=_select(segments, rows),
                    lengths=_select(lengths, rows),
                    features=_select(features, rows),
                )
            indices.append(rows)
            states.append(part)
        return torch.cat(states)[torch.cat(indices).argsort()]

    @property
    def global_layers(self) -> list[LongformerAttention]:
        """The attention of each block, first to last."""
        return [layer for layer in self.modules() if isinstance(layer, LongformerAttention)]

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        size, config = self.compute_dtype.itemsize, self.config
        global_bytes = saved_bytes(Full(), self.num_global, length, itemsize=size) // length
        all_global = config.num_layers * config.num_heads * global_bytes
        return super().attention_bytes(attention, length) + all_global


def _select(x: Tensor | None, rows: Tensor) -> Tensor | None:
    """Return rows of ``[batch, ...]``, which may be in another memory; None stays None."""
    return None if x is None else x[rows.to(x.device)]
