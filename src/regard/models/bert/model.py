"""BERT and its variants: encoders that are trained to predict masked tokens.

Devlin, Chang, Lee & Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers", 2019;
RoBERTa (Liu et al. 2019): one kind of segment, positions from ``pad_id + 1`` on; DistilBERT (Sanh
et al. 2019): no segments. Next-sentence prediction, which RoBERTa found to be of no use, is left
out. Cost of a pass: O(length^2 dim + length dim^2) a layer with full attention; a sparse pattern
replaces length^2 by its number of pairs.
"""

from __future__ import annotations

from regard.layers.attention_config import AttentionConfig
from regard.models.base.encoder import Encoder, EncoderConfig
from regard.models.base.pattern_support import check_patterns


class BertConfig(EncoderConfig, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="bert"):
    """The dimensions of a BERT; the defaults are those of BERT base."""


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
        check_patterns("bert", attention, lacks="decoder")
        mixers = map(config.block().self_attention, config.patterns(attention))
        super().__init__(config, vocab_size, mixers)
