"""Messages of the library in the words of the command line."""

from __future__ import annotations

import msgspec
import pytest

from regard.cli.wording import message_text
from regard.setup.config import RunConfig

SECTIONS = [
    name
    for name, value in msgspec.structs.asdict(RunConfig()).items()
    if isinstance(value, msgspec.Struct)
]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_setting_of_every_section_becomes_an_option(section):
    assert message_text(f"Set `{section}.some_name=1`") == f"Set --set {section}.some_name=1"


def test_a_setting_with_an_option_of_its_own_becomes_that():
    assert message_text("Set `forecast.horizon=12`") == "Set --horizon 12"
