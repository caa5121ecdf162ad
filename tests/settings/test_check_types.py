"""Constructors check the types of settings in the words of the command line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from regard.attention import Causal
from regard.errors import ConfigError
from regard.layers import (
    AttentionConfig,
    BlockConfig,
    CrossAttention,
    FeedForward,
    LayerNorm,
    MaskedTokenHead,
    MesaMixer,
    Pooler,
    Rotary,
    SelfAttention,
    SinusoidalPositions,
)
from regard.models import (
    Bert,
    BertConfig,
    Classifier,
    EncoderDecoderConfig,
    Gpt,
    GptConfig,
    LongformerConfig,
    TransformerConfig,
    VitConfig,
)
from regard.settings.binding import bind

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "positions": (
        lambda: GptConfig(positions="sinusoidal"),
        "positions=sinusoidal: one of rotary, learned was expected.",
    ),
    "norm": (
        lambda: TransformerConfig(norm="prenorm"),
        "norm=prenorm: one of pre, post was expected.  Did you mean pre?",
    ),
    "pooling": (
        lambda: BertConfig(pooling="cls"),
        "pooling=cls: one of first, mean was expected.",
    ),
    "tied": (lambda: TransformerConfig(tied=True), "tied=true: one of all, target, none was"),
    "activation": (
        lambda: GptConfig(activation="gelu_new"),
        "activation=gelu_new: one of relu, gelu, gelu_tanh, silu, swiglu was expected.",
    ),
    "a text": (lambda: GptConfig(num_layers="2"), "num_layers=2: a whole number was expected."),
    "a fraction": (lambda: VitConfig(dim=7.5), "dim=7.5: a whole number was expected."),
    "a flag": (lambda: GptConfig(bias=1), "bias=1: true or false was expected."),
    "heads": (lambda: GptConfig(dim=30), "dim must be a multiple of num_heads (8), not 30"),
    "another struct": (
        lambda: EncoderDecoderConfig(encoder=GptConfig()),
        "encoder=GptConfig: one of BertConfig, LongformerConfig was expected.",
    ),
    "a pattern": (lambda: AttentionConfig(pattern=4), "pattern=4: text or a bracketed list"),
    "a block": (
        lambda: BlockConfig(dim=8, num_heads=2, hidden_dim=8, norm_kind="rsm"),
        "norm_kind=rsm: one of layer, rms was expected.  Did you mean rms?",
    ),
    "an empty vocabulary": (
        lambda: Gpt(GptConfig(dim=8, num_heads=2), 0),
        "vocab_size=0: vocab_size must be 1 or more, not 0",
    ),
    "one label": (
        lambda: Classifier(Bert(BertConfig(dim=8, num_heads=2, num_layers=1), 9), 1),
        "num_labels=1: num_labels must be 2 or more, not 1",
    ),
    "heads of a layer": (
        lambda: SelfAttention(30, 4),
        "dim must be a multiple of num_heads (4), not 30; or set head_dim",
    ),
    "no heads": (lambda: CrossAttention(8, 0), "num_heads=0: num_heads must be 1 or more, not 0"),
    "shared heads": (
        lambda: SelfAttention(8, 4, num_kv_heads=3),
        "num_kv_heads must divide num_heads (4), not 3",
    ),
    "odd rotary heads": (
        lambda: SelfAttention(12, 4, rotary=Rotary()),
        "heads must have an even size with rotary positions, not 3",
    ),
    "a layer's activation": (
        lambda: FeedForward(8, 8, activation="mish"),
        "activation=mish: one of relu, gelu, gelu_tanh, silu, swiglu was expected.",
    ),
    "a pooler's activation": (
        lambda: Pooler(8, "gelu"),
        "activation=gelu: one of tanh, relu was expected.",
    ),
    "a head's activation": (
        lambda: MaskedTokenHead(8, 9, LayerNorm(8), activation="tanh"),
        "activation=tanh: one of relu, gelu, gelu_tanh was expected.",
    ),
    "sinusoids": (
        lambda: SinusoidalPositions(8, "half"),
        "order=half: one of interleaved, halves was expected.  Did you mean halves?",
    ),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_constructor_refuses_what_it_cannot_build(build: Callable[[], object], message: str):
    with pytest.raises(ValueError) as error:
        build()
    assert str(error.value).startswith(message)


def test_the_command_line_gives_the_same_message():
    with pytest.raises(ConfigError) as of_constructor:
        GptConfig(activation="gelu_new")
    with pytest.raises(ConfigError) as of_settings:
        bind(GptConfig, {"activation": "gelu_new"})
    assert str(of_constructor.value) == str(of_settings.value)


def test_numbers_of_numpy_become_plain_ones():
    config = GptConfig(num_layers=np.int64(2), dropout=np.float32(0.5))
    assert (type(config.num_layers), type(config.dropout)) == (int, float)
    assert config == GptConfig(num_layers=2, dropout=0.5)


def test_lists_become_tuples():
    assert LongformerConfig(num_layers=2, window=[4, 8]).window == (4, 8)
    assert AttentionConfig(pattern=["local:4", "full"]).pattern == ("local:4", "full")


def test_layers_have_defaults_for_all_that_has_a_sensible_one():
    layers = [
        SelfAttention(8, 2),
        SelfAttention(8, 2, pattern=Causal()),
        CrossAttention(8, 2),
        FeedForward(8, 32),
        MesaMixer(8, 2),
        BlockConfig(dim=8, num_heads=2, hidden_dim=32),
    ]
    assert [type(layer).__name__ for layer in layers].count("SelfAttention") == 2
