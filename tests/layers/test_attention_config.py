"""The settings ``attention.*``: what they mean for each layer, what is refused and how."""

import pytest

from regard.attention import Causal, Full, Global, Hierarchical, Local, TopK
from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig

KNOWN = (
    "Known: full, causal, local:B, local:B,A, strided:S, global:P,P,..., random:SIZE:COUNT, "
    "top_k:K, hierarchical:B, joined by | and & and parentheses."
)
NO_WINDOW = "the window must be 1 or more (or a fraction of the length, e.g. local:0.1)."


def test_full_is_the_default_everywhere():
    config = AttentionConfig()
    assert config.encoder_patterns(2) == [Full(), Full()]
    assert config.decoder_patterns(2) == [Causal(), Causal()]
    assert config.cross_patterns(1) == [Full()]
    assert config.summary() == "full"


def test_pattern_holds_for_both_self_attentions_and_not_for_cross_attention():
    config = AttentionConfig(pattern="local:3")
    assert config.encoder_patterns(1) == [Local(3, 3)]
    assert config.decoder_patterns(1) == [Local(3, 0) & Causal()]
    assert config.cross_patterns(1) == [Full()]
    assert config.summary() == "local:3"


def test_one_place_may_have_its_own():
    config = AttentionConfig(
        pattern="local:3", encoder="hierarchical:4", decoder="top_k:2", cross="local:9"
    )
    assert config.encoder_patterns(1) == [Hierarchical(4)]
    assert config.decoder_patterns(1) == [TopK(2, causal=True)]
    assert config.cross_patterns(1) == [Local(9, 9)]
    assert config.summary() == "encoder hierarchical:4, decoder top_k:2, cross local:9"


def test_a_list_alternates_over_the_layers():
    config = AttentionConfig(pattern=("local:1", "local:1", "global:0"))
    local, everywhere = Local(1, 1), Global([0])
    assert config.encoder_patterns(5) == [local, local, everywhere, local, local]
    assert config.encoder_patterns(2) == [local, local]
    assert config.summary() == "local:1 / local:1 / global:0"


def test_hierarchical_stands_in_the_encoder_where_the_decoder_has_another():
    config = AttentionConfig(pattern="hierarchical:4", decoder="local:8")
    assert config.encoder_patterns(1) == [Hierarchical(4)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pattern": "local:0"}, f"attention.pattern=local:0: {NO_WINDOW}"),
        ({"decoder": "local:0"}, f"attention.decoder=local:0: {NO_WINDOW}"),
        (
            {"cross": ("full", "locl:3")},
            f'attention.cross: "locl:3" is not a pattern.  Did you mean local:3?  {KNOWN}',
        ),
        (
            {"pattern": ()},
            "attention.pattern=[]: the list is empty.  "
            'Expected one pattern or more, e.g. ["local:64", "full"].',
        ),
        (
            {"encoder": "[local:3,full]"},
            "attention.encoder=[local:3,full]: a list has each pattern in double quotes, "
            """e.g. 'attention.encoder=["local:64", "full"]'.""",
        ),
        (
            {"pattern": "hierarchical:4"},
            "attention.pattern=hierarchical:4: averages keys of the queries' own sequence, which "
            "does not go with a decoder that writes token by token.  Take another pattern, "
            "e.g. local:256, or set attention.decoder as well.",
        ),
        (
            {"decoder": ("full", "hierarchical:4")},
            "attention.decoder=hierarchical:4: averages keys of the queries' own sequence, which "
            "does not go with a decoder that writes token by token.  Take another pattern, "
            "e.g. local:256.",
        ),
        (
            {"cross": "hierarchical:4"},
            "attention.cross=hierarchical:4: averages keys of the queries' own sequence, which "
            "does not go with cross-attention, which has other keys than queries.  "
            "Take another pattern, e.g. full.",
        ),
    ],
)
def test_what_cannot_stand_there_is_refused(given, message):
    with pytest.raises(ConfigError) as raised:
        AttentionConfig(**given)
    assert str(raised.value) == message
