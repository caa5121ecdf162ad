"""Settings out of range are refused by name, with what is allowed and what was given."""

from __future__ import annotations

import math
from functools import partial
from typing import TypedDict

import msgspec
import numpy as np
import pytest

from regard.errors import ConfigError
from regard.generation.beam_search_config import BeamSearchConfig
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
        ("ab", "texts: a text or a list of texts was expected, not str."),
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
        ({"stop": 3}, "`stop`: a text was expected, not int."),
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


def test_a_whole_number_may_be_longer_than_a_float_can_be():
    require_number("beam", 10**400, is_whole=True)
    with pytest.raises(ConfigError, match="`beam`: a whole number was expected, not nan"):
        require_number("beam", float("nan"), is_whole=True)
