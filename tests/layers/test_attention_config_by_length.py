"""Fractions of the length and random blocks in the settings ``attention.*`` and in a model."""

import pytest
import torch

from regard.attention import Full, LengthDependentPattern, RandomBlocks, RelativeWindow, TopK
from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.settings.binding import from_toml, to_toml
from regard.setup.config import RunConfig

SPARSE = AttentionConfig(
    encoder=("local:0.3", "random:2:2:1"), decoder="local:4", cross="local:0.4|global:0"
)


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


SOURCE = torch.randint(3, 40, (1, 9), generator=torch.Generator().manual_seed(1))
TARGET = torch.randint(3, 40, (1, 8), generator=torch.Generator().manual_seed(2))


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
