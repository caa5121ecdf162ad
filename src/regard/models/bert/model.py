"""BERT and its variants: encoders that are trained to predict masked tokens.

Devlin, Chang, Lee & Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers", 2019;
RoBERTa (Liu et al. 2019): one kind of segment, positions from ``pad_id + 1`` on; DistilBERT (Sanh
et al. 2019): no segments; ELECTRA (Clark et al. 2020): tables of another size than the states.
Next-sentence prediction, which RoBERTa found to be of no use, is left out. Cost of a pass:
O(length^2 dim + length dim^2) a layer with full attention; a sparse pattern replaces length^2 by
its number of pairs.
"""

from __future__ import annotations

import msgspec

from regard.layers.attention_config import AttentionConfig
from regard.layers.positions import LearnedPositions
from regard.layers.transformer_block import BlockConfig
from regard.models.base.encoder import Encoder, EncoderConfig
from regard.models.base.pattern_support import check_patterns
from regard.settings.validation import require_positive


class BertConfig(EncoderConfig, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="bert"):
    """The dimensions of a BERT; the defaults are those of BERT base.

    Args:
        max_positions: Longest text, in tokens; later positions of a table count as the last.
        rotary_base: Base of rotary positions (Su et al. 2021), above 0, in place of the table of
            positions: a token sees how far away others are. None, the paper's, has the table.
    """

    rotary_base: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "rotary_base")
        if self.rotary_base is not None and (self.dim // self.num_heads) % 2:
            size = self.dim // self.num_heads
            raise ValueError(f"dim / num_heads must be even with rotary positions, not {size}")

    def block(self) -> BlockConfig:
        """Return the dimensions of one block."""
        return msgspec.structs.replace(super().block(), rotary_base=self.rotary_base)

    def make_positions(self) -> LearnedPositions | None:
        """Return the table of positions, if there is one."""
        return None if self.rotary_base is not None else super().make_positions()


class Bert(Encoder):
    """The encoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids.
        attention: The pattern of each layer.
    """

    def __init__(
        self,
        config: BertConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        check_patterns(config, attention, lacks="decoder")
        mixers = map(config.block().self_attention, config.patterns(attention))
        super().__init__(config, vocab_size, mixers)
