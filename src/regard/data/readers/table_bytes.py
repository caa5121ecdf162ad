"""Tables of Parquet and Arrow, and translation memories, as they are known by their bytes."""

from __future__ import annotations

import re

PARQUET, ENCRYPTED = b"PAR1", b"PARE"
"""How files of Parquet begin and end; those with an encrypted schema."""
_ARROW_FILE, _ARROW_MESSAGE = b"ARROW1\0\0", b"\xff\xff\xff\xff"
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a]")
_SEARCHED = 4096  # bytes
_ROOT = re.compile(
    # What matched is not tried in another way: many comments would take forever.
    r"\s*+(?:(?><\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>]*>)\s*+)*+<(?:\w+:)?(tmx|xliff)\b",
    re.DOTALL,
)
_HEAD = 8192  # bytes, before the first element of XML
_MARKS = b"\xef\xbb\xbf\xff\xfe\0"
_FORMS = {"tmx": "TMX", "xliff": "XLIFF"}
MEMORY_FORMS = tuple(_FORMS.values())
"""What files of units are called."""


def find_form(content: bytes, *, is_named: bool) -> str:
    """Return what a table of Parquet or Arrow is, by its bytes; empty for another file.

    Args:
        content: Its bytes.
        is_named: Whether its name says that it is one.
    """
    if content.startswith((PARQUET, ENCRYPTED)):
        is_binary = is_named or has_control_bytes(content)
        return "Parquet" if is_binary else ""
    if _begins_as_stream(content):
        return "Arrow stream"
    return "Arrow" if content.startswith(_ARROW_FILE) else ""


def _begins_as_stream(content: bytes) -> bool:
    """Return whether bytes begin as a message of Arrow: a mark, and a length in steps of 8."""
    length = int.from_bytes(content[4:8], "little")
    return content.startswith(_ARROW_MESSAGE) and length > 0 and length % 8 == 0


def has_control_bytes(content: bytes) -> bool:
    """Return whether a file begins with bytes that no text has; one may begin with PAR1, too."""
    return _CONTROL.search(content, 0, _SEARCHED) is not None


def find_memory_form(content: bytes) -> str:
    """Return ``TMX`` or ``XLIFF`` for a file of one by its first element; empty for another file.

    >>> find_memory_form(b'<?xml version="1.0"?><tmx version="1.4">'), find_memory_form(b"a<b")
    ('TMX', '')
    """
    start = content[:_HEAD].lstrip(_MARKS).replace(b"\0", b"")
    if not start.lstrip().startswith(b"<"):
        return ""
    root = _ROOT.match(start.decode("latin-1"))
    return "" if root is None else _FORMS[root[1]]
