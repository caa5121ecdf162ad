"""Settings out of range are refused by name, with what is allowed and what was given."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypedDict

import msgspec
import numpy as np
import pytest
import torch

from regard.attention import Causal
from regard.errors import ConfigError
from regard.generation.beam_search_config import BeamSearchConfig
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
from regard.settings.validation import (
    replace_values,
    require_at_least,
    require_even_heads,
    require_fraction,
    require_multiple,
    require_number,
    require_options,
    require_positive,
    require_probability,
    require_texts,
)

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
        "activation=gelu_new: one of relu, gelu, gelu_tanh, silu, swiglu, geglu, geglu_tanh was "
        "expected.",
    ),
    "a text": (lambda: GptConfig(num_layers="2"), "num_layers=2: a whole number was expected."),
    "a fraction": (lambda: VitConfig(dim=7.5), "dim=7.5: a whole number was expected."),
    "a flag": (lambda: GptConfig(bias=1), "bias=1: true or false was expected."),
    "heads": (lambda: GptConfig(dim=30), "dim must be a multiple of num_heads (8), not 30"),
    "another struct": (
        lambda: EncoderDecoderConfig(encoder=GptConfig()),
        "encoder=GptConfig: one of BertConfig, LongformerConfig, ModernBertConfig was expected.",
    ),
    "a pattern": (lambda: AttentionConfig(pattern=4), "pattern=4: text or a bracketed list"),
    "a block": (
        lambda: BlockConfig(dim=8, num_heads=2, hidden_dim=8, norm_kind="rsm"),
        "norm_kind=rsm: one of layer, rms, zero_centered_rms was expected.  Did you mean rms?",
    ),
    "an empty vocabulary": (
        lambda: Gpt(GptConfig(dim=8, num_heads=2), 0),
        "vocab_size must be a whole number, 1 or more, not 0",
    ),
    "one label": (
        lambda: Classifier(Bert(BertConfig(dim=8, num_heads=2, num_layers=1), 9), 1),
        "num_labels must be a whole number, 2 or more, not 1",
    ),
    "heads of a layer": (
        lambda: SelfAttention(30, 4),
        "dim must be a multiple of num_heads (4), not 30; or set head_dim",
    ),
    "no heads": (
        lambda: CrossAttention(8, 0),
        "num_heads must be a whole number, 1 or more, not 0",
    ),
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
        "activation=mish: one of relu, gelu, gelu_tanh, silu, swiglu, geglu, geglu_tanh was "
        "expected.",
    ),
    "a pooler's activation": (
        lambda: Pooler(8, "silu"),
        "activation=silu: one of tanh, relu, gelu was expected.",
    ),
    "a head's activation": (
        lambda: MaskedTokenHead(8, 9, LayerNorm(8), activation="tanh"),
        "activation=tanh: one of relu, gelu, gelu_tanh was expected.",
    ),
    "sinusoids": (
        lambda: SinusoidalPositions(8, "half"),
        "order=half: one of interleaved, halves, fairseq was expected.  Did you mean halves?",
    ),
}


class Sizes(msgspec.Struct):
    size: float | None = None
    part: int = 4


@pytest.mark.parametrize(
    ("check", "refused", "allowed", "words"),
    [
        (partial(require_at_least, 1), 0, 1, "1 or more"),
        (partial(require_at_least, 0), -1, 0, "0 or more"),
        (require_positive, 0, 1e-9, "above 0"),
        (require_probability, 1.0, 0.0, "at least 0 and below 1"),
        (require_fraction, 0.0, 1.0, "above 0 and at most 1"),
        (require_probability, float("nan"), 0.5, "at least 0 and below 1"),
    ],
)
def test_a_number_out_of_range_is_named_with_what_is_allowed(check, refused, allowed, words):
    check(Sizes(size=allowed), "size")
    with pytest.raises(ValueError, match=rf"^size must be {words}, not {refused}$"):
        check(Sizes(size=refused), "size")


def test_a_setting_that_is_left_out_passes():
    for check in (
        partial(require_at_least, 1),
        require_positive,
        require_probability,
        require_fraction,
    ):
        left_out = Sizes()
        check(left_out, "size")
        assert left_out.size is None
        with pytest.raises(ValueError, match=r"^size must be .*, not -1$"):
            check(Sizes(size=-1), "size")


def test_the_first_of_several_settings_that_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"^part must be 5 or more, not 4$"):
        require_at_least(5, Sizes(size=6), "size", "part")


def test_a_size_that_does_not_fall_into_parts_names_both():
    require_multiple(Sizes(size=8), "size", divisor="part")
    with pytest.raises(ValueError, match=r"^size must be a multiple of part \(4\): 6$"):
        require_multiple(Sizes(size=6), "size", divisor="part")


@pytest.mark.parametrize(("dim", "num_heads"), [(9, 3), (8, 3), (0, 1)])
def test_a_size_must_be_even_and_fall_into_heads(dim, num_heads):
    require_even_heads(12, 3)
    with pytest.raises(ValueError) as caught:
        require_even_heads(dim, num_heads)
    assert str(caught.value) == (
        f"dim must be even and a multiple of num_heads ({num_heads}), not {dim}"
    )


@pytest.mark.parametrize("texts", [["a", ""], ("a", ""), (text for text in ("a", ""))])
def test_texts_may_be_in_any_collection(texts):
    assert require_texts(texts, "texts") == ["a", ""]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "texts: a text or a list of texts was expected, not NoneType."),
        (3, "texts: a text or a list of texts was expected, not int."),
        (b"ab", "texts: a text or a list of texts was expected, not bytes."),
        ({"a": "b"}, "texts: a text or a list of texts was expected, not dict."),
        ("ab", "texts: a list of texts was expected, not str."),
        (["a", None], "texts[1]: a text was expected, not NoneType."),
        ([["a"]], "texts[0]: a text was expected, not list."),
        (["a", "b\udcff"], "texts[1]: half of a character (U+DCFF) at character 1."),
    ],
)
def test_what_is_not_a_text_is_refused_by_its_number(texts, message):
    with pytest.raises(ConfigError) as caught:
        require_texts(texts, "texts")
    assert str(caught.value) == message


class Options(TypedDict, total=False):
    """Options of a call."""

    beam: int | None
    penalty: float | None
    stop: str | None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": "4"}, "`beam`: a whole number was expected, not '4' (str)."),
        ({"beam": 2.5}, "`beam`: a whole number was expected, not 2.5 (float)."),
        ({"beam": True}, "`beam`: a whole number was expected, not True (bool)."),
        ({"penalty": "1"}, "`penalty`: a number was expected, not '1' (str)."),
        ({"penalty": math.nan}, "`penalty`: a number was expected, not nan (float)."),
        ({"stop": 3}, "`stop`: a text was expected, not 3 (int)."),
        ({"bean": 4}, "`bean`: no such option.  Did you mean beam?  All: beam, penalty, stop"),
    ],
)
def test_options_of_another_type_are_named_with_what_was_expected(options, message):
    with pytest.raises(ConfigError) as error:
        require_options(Options, options)
    assert str(error.value) == message


def test_numbers_of_numpy_and_none_are_options():
    values = {"beam": np.int64(4), "penalty": np.float32(1), "stop": None}
    assert require_options(Options, values) is None
    assert require_options(Options, {"beam": None, "penalty": 2}) is None


def test_a_check_of_a_configuration_names_its_settings_in_backticks():
    config = BeamSearchConfig(beam=2)
    with pytest.raises(ConfigError, match=r"^`num_best` must be 1 to `beam` \(2\), not 3\.$"):
        replace_values(config, num_best=3)
    assert replace_values(config, num_best=2).num_best == 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (10**400, f"1{39 * '0'}..."),
        (-(10**5000), "a number of over 4,"),
    ],
    ids=["400 digits", "5,000 digits"],
)
def test_a_whole_number_beyond_all_use_is_refused(value, shown):
    rule = "must be -1,000,000,000,000 to 1,000,000,000,000, not"
    for is_whole in (True, False):
        with pytest.raises(ConfigError) as caught:
            require_number("beam", value, is_whole=is_whole)
        assert str(caught.value).startswith(f"`beam` {rule} {shown}")
    with pytest.raises(ConfigError, match="`beam`: a whole number was expected, not nan"):
        require_number("beam", float("nan"), is_whole=True)


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
    x = torch.ones(1, 3, 8)
    for layer in (
        SelfAttention(8, 2),
        SelfAttention(8, 2, pattern=Causal()),
        FeedForward(8, 32),
        MesaMixer(8, 2),
    ):
        assert layer(x).shape == (1, 3, 8)
    assert CrossAttention(8, 2).num_heads == 2
    assert BlockConfig(dim=8, num_heads=2, hidden_dim=32).norm_kind == "layer"
