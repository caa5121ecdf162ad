"""Parameters of several verbs, for cyclopts."""

from __future__ import annotations

import re

from cyclopts import Parameter


def _refuse_option(_: object, value: str | None) -> None:
    """Raise ValueError for an unknown option in place of data or text."""
    if value is not None and re.fullmatch(r"--[a-z][a-z-]*(=.*)?", value):
        raise ValueError("This verb has no such option.")


Flag = Parameter(negative=())
Output = Parameter(name=["--output", "-o"])
Input = Parameter(allow_leading_hyphen=True, validator=_refuse_option)
"""A file, or a text that may begin with a hyphen; ``-`` is standard input."""
AsText = Parameter(name="--text", negative=())
Settings = Parameter(name="--set", negative=())
