"""The commands that the pages show exist, with their options and settings."""

import re
import shlex
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

from regard.__main__ import main
from regard.cli import BENCHES, VERBS
from regard.settings.binding import describe
from regard.setup.config import RunConfig

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
_SHOWN = re.compile(r"(?:^    |`|\| |<|: )(regard [a-z](?:'[^'\n]*'|[^'`#|\n])*)", re.MULTILINE)
_SET = re.compile(r"--set '?([a-z_.]+)=")
KNOWN = {*VERBS, *(f"bench {name}" for name in BENCHES)}


def commands(page: Path) -> list[str]:
    """List the commands that a page shows, without comments; continued lines are joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    # Columns of text beside a command are separated by three spaces or more.
    return [re.split(r" {3,}(?!-)", command)[0] for command in _SHOWN.findall(text)]


@cache
def names_of_settings() -> frozenset[str]:
    """Return the names of all settings."""
    return frozenset(line.split()[0] for line in describe(RunConfig).splitlines() if line)


def verb_of(words: list[str]) -> str:
    """Return the verb of a command, such as ``bench attention``."""
    return " ".join(words[1:3]) if words[1] == "bench" else words[1]


@cache
def options_of(verb: str) -> frozenset[str]:
    """Return the options that the help of a verb names."""
    with redirect_stdout(StringIO()) as help_text:
        assert main([*verb.split(), "--help"]) == 0
    return frozenset(re.findall(r"--[a-z0-9-]+", help_text.getvalue()))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_its_options_exist(page):
    missing = []
    for command in commands(page):
        words = shlex.split(command, comments=True)
        verb = verb_of(words)
        if verb not in KNOWN:
            missing.append(command)
            continue
        options = options_of(verb)
        shown = {word for word in words if word.startswith("--")}
        if not shown <= options | {"--help"}:
            missing.append(f"{command}: {sorted(shown - options)}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_page_sets_exists(page):
    names = set(_SET.findall(page.read_text(encoding="utf-8")))
    sides = {name for name in names if name.startswith(("model.encoder.", "model.decoder."))}
    assert names - sides - {"section.key"} <= names_of_settings()
