"""Commands as a user calls them, for the tests of the verbs."""

from __future__ import annotations

import io
import sys

from tests.conftest import TINY

from regard.__main__ import main

SETTINGS = [word for setting in TINY for word in ("--set", setting)]


def run(capsys, *words):
    """Call `regard WORDS`; return the exit code, the output and the errors."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def feed(monkeypatch, text):
    """Let standard input hold a text."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"))
