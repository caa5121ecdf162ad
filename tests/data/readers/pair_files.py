"""Files of sentence pairs in the working directory, for the tests of readers."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from regard.cli.wording import error_text
from regard.data.readers.tables import parse_pairs, read_pairs
from regard.errors import DataError


def write(name: str, content: str | bytes) -> str:
    """Write a file of the working directory; return its name."""
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def read(content: str | bytes, name: str = "pairs.tsv", **arguments) -> list[tuple[str, str]]:
    """Read a content as pairs."""
    pairs = read_pairs(write(name, content), **arguments)
    return list(zip(pairs.sources, pairs.targets, strict=True))


def read_in_new_folder(content: bytes, name: str) -> list[tuple[str, str]]:
    """Read a content as pairs, where hypothesis calls a test many times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        pairs = read_pairs(path)
    return list(zip(pairs.sources, pairs.targets, strict=True))


def find_problems(path, **arguments) -> list[str]:
    """Return the messages about a file."""
    return [str(problem) for problem in parse_pairs(path, **arguments)[1]]


def fault(content: str | bytes, name: str = "pairs.tsv", **arguments) -> str:
    """Return the message that a content is refused with."""
    with pytest.raises(DataError) as caught:
        read(content, name, **arguments)
    return error_text(caught.value)


def give_input(monkeypatch, content: bytes) -> None:
    """Let standard input hold some bytes."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content), closed=False))
