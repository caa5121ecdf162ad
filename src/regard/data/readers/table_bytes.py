"""Tables of Parquet and Arrow, as they are known by their bytes."""

from __future__ import annotations

import re

PARQUET, ENCRYPTED = b"PAR1", b"PARE"
"""How files of Parquet begin and end; those with an encrypted schema."""
_ARROW_FILE, _ARROW_MESSAGE = b"ARROW1\0\0", b"\xff\xff\xff\xff"
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a]")
_SEARCHED = 4096  # bytes


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
