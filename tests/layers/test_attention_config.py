"""The settings ``attention.*``: what they mean for each layer, what is refused and how."""

import pytest
import torch

from regard.attention import (
    Causal,
    Full,
    Global,
    Hierarchical,
    LengthDependentPattern,
    Local,
    RandomBlocks,
    RelativeWindow,
    TopK,
)
from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.settings.binding import from_toml, to_toml
from regard.setup.config import RunConfig

KNOWN = (
    "Known: full, causal, local:B, local:B,A, strided:S, global:P,P,..., random:SIZE:COUNT, "
    "top_k:K, hierarchical:B, joined by | and & and parentheses."
)
NO_WINDOW = "the window must be 1 or more (or a fraction of the length, e.g. local:0.1)."
SPARSE = AttentionConfig(
    encoder=("local:0.3", "random:2:2:1"), decoder="local:4", cross="local:0.4|global:0"
)
SOURCE = torch.randint(3, 40, (1, 9), generator=torch.Generator().manual_seed(1))
TARGET = torch.randint(3, 40, (1, 8), generator=torch.Generator().manual_seed(2))


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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"pattern": "local:0.1"},
            "attention.pattern=local:0.1: depends on the length, which a decoder that writes token "
            "by token does not know.  Take a number, e.g. local:256, or set attention.decoder "
            "as well.",
        ),
        (
            {"decoder": ("full", "random:64:3")},
            "attention.decoder=random:64:3: depends on the length, which a decoder that writes "
            "token by token does not know.  Take a number, e.g. local:256.",
        ),
        (
            {"cross": "local:0"},
            "attention.cross=local:0: the window must be 1 or more (or a fraction of the length, "
            "e.g. local:0.1).",
        ),
    ],
)
def test_a_decoder_that_would_have_to_know_its_length_is_refused(given, message):
    with pytest.raises(ConfigError) as raised:
        AttentionConfig(**given)
    assert str(raised.value) == message


def test_encoder_and_cross_attention_may_depend_on_the_length():
    assert SPARSE.encoder_patterns(2) == [RelativeWindow(0.3, 0.3), RandomBlocks(2, 2, seed=1)]
    assert isinstance(SPARSE.cross_patterns(1)[0], LengthDependentPattern)
    assert AttentionConfig(pattern="local:0.5", decoder="full").encoder_patterns(1) == [
        RelativeWindow(0.5, 0.5)
    ]


def test_a_configuration_file_keeps_the_fraction():
    config = RunConfig(attention=SPARSE)
    assert from_toml(to_toml(config), RunConfig, name="config.toml") == config


def test_every_pattern_of_a_model_is_listed():
    found = AttentionConfig(pattern="top_k:2", cross="full").every_pattern(2, 1)
    assert found == [TopK(2), TopK(2), TopK(2, causal=True), Full()]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    config = TransformerConfig(
        num_encoder_layers=2, num_decoder_layers=2, dim=16, num_heads=2, hidden_dim=32, dropout=0.0
    )
    return Transformer(config, 40, SPARSE).eval()


def test_a_sentence_is_read_the_same_alone_and_in_a_batch(model):
    longer = torch.randint(3, 40, (1, 16), generator=torch.Generator().manual_seed(3))
    padded = torch.cat([SOURCE, torch.zeros(1, 7, dtype=torch.long)], dim=1)
    both = model(torch.cat([longer, padded]), TARGET.expand(2, -1))
    torch.testing.assert_close(both[1:], model(SOURCE, TARGET))


def test_decoding_step_by_step_gives_what_training_computes(model):
    wanted = model(SOURCE, TARGET)
    state = model.init_state(SOURCE)
    for place in range(TARGET.shape[1]):
        torch.testing.assert_close(model.decode_step(TARGET[:, place], state), wanted[:, place])
