"""Messages of the library in the words of the command line."""

from __future__ import annotations

import msgspec
import pytest

from regard.cli import VERBS
from regard.cli.app import build_app
from regard.cli.wording import VERBS_OF_OPTIONS, message_text
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
    assert message_text("`horizon=0`: 1 or more.") == "--horizon 0: 1 or more."
    assert message_text("Set `forecast.horizon=12`") == "Set --horizon 12"


@pytest.mark.parametrize("option", VERBS_OF_OPTIONS)
def test_options_are_proposed_to_the_verbs_that_have_them(option):
    app = build_app()
    verbs = {
        verb
        for verb in VERBS
        if any(option in argument.names for argument in app[verb].assemble_argument_collection())
    }
    assert verbs == VERBS_OF_OPTIONS[option]
