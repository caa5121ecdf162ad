"""One side of a family alone: what its lines say, and what it does not have."""

from __future__ import annotations

import pytest

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models import DECODERS, ENCODERS, ConvS2SConfig, LstmConfig, TransformerConfig

VOCAB = 20


@pytest.mark.parametrize("family", ["transformer", "lstm", "conv_s2s"])
def test_what_tells_of_a_source_changes_nothing(family):
    made = DECODERS[family]
    sizes = {"num_decoder_layers": 2, "dim": 16}
    few, many = (
        sum(
            p.numel()
            for p in made.model(made.config(**sizes, num_encoder_layers=n), VOCAB).parameters()
        )
        for n in (1, 5)
    )
    assert few == many


def test_the_lines_tell_one_side():
    config, attention = TransformerConfig(num_encoder_layers=3), AttentionConfig(decoder="local:8")
    assert DECODERS["transformer"].summary(config, attention) == (
        "6 layers, d=512, 8 heads, ff 2048, pre-norm, attention local:8"
    )
    assert ENCODERS["transformer"].summary(config, AttentionConfig(encoder="local:8")) == (
        "3 layers, d=512, 8 heads, ff 2048, pre-norm, attention local:8"
    )
    assert DECODERS["lstm"].summary(LstmConfig(), AttentionConfig()) == "2 layers, d=512"
    assert DECODERS["conv_s2s"].summary(ConvS2SConfig(), AttentionConfig()) == (
        "8 layers, d=512, kernel 3"
    )


@pytest.mark.parametrize("name", ["pattern", "encoder", "decoder", "cross"])
@pytest.mark.parametrize("family", ["lstm", "conv_s2s"])
def test_a_pattern_is_refused_where_there_is_no_attention(family, name):
    made, attention = DECODERS[family], AttentionConfig(**{name: "local:4"})
    with pytest.raises(ConfigError) as caught:
        made.model(made.config(), VOCAB, attention)
    assert str(caught.value) == (
        f"attention.{name}=local:4: {family} has no attention.  "
        "Leave it out; its cost is linear in the length."
    )
