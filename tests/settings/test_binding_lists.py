"""Lists of numbers that may be none."""

from __future__ import annotations

import pytest

from regard.errors import ConfigError
from regard.settings.binding import bind, parse_settings
from regard.setup.config import RunConfig


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("48,336", (48, 336)),
        ("12", (12,)),
        ("[48, 336]", (48, 336)),
        ("[]", ()),
        ("none", None),
    ],
)
def test_a_list_without_other_forms_is_written_with_commas(text, expected):
    config = bind(RunConfig, parse_settings([f"forecast.seasons={text}"]))
    assert config.forecast.seasons == expected


def test_a_word_in_a_list_of_numbers_is_refused():
    with pytest.raises(ConfigError, match="a comma-separated list of whole numbers or none"):
        bind(RunConfig, parse_settings(["forecast.seasons=12,week"]))
