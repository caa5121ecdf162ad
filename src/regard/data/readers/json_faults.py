"""What is wrong with a line that should be an object of JSON, and what mends it."""

from __future__ import annotations

import re

from regard.errors import DataError

_SURROGATES = re.compile(  # an escaped backslash, a whole pair, or half of one
    r"\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(\\u[dD][89a-fA-F]\w\w)"
)
_SINGLE_QUOTE = re.compile(r"\s*\{\s*'")
_PYTHON = "import ast, json, sys; [print(json.dumps(ast.literal_eval(line))) for line in sys.stdin]"


def describe_fault(error: Exception, text: str) -> str:
    """Return why a line is not an object: of half a surrogate pair msgspec says that it was cut."""
    if isinstance(error, DataError):
        return str(error)
    half = find_half_character(text)
    return f"not JSON: {f'half of a character ({half[1]})' if half else error}."


def advise_fault(text: str) -> str:
    """Return what mends a line that is not JSON; empty where that is not known.

    >>> advise_fault('{"text": "a"},'), advise_fault("]")
    ("A comma after the object?  Drop it: sed 's/,$//' FILE > fixed.jsonl", 'Drop the comma above.')
    """
    line = text.strip()
    if _SINGLE_QUOTE.match(line):
        return f'Written by Python?  Convert: python3 -c "{_PYTHON}" < FILE > fixed.jsonl'
    if line.startswith("{") and line.endswith("},"):
        return "A comma after the object?  Drop it: sed 's/,$//' FILE > fixed.jsonl"
    return "Drop the comma above." if line == "]" else ""


def find_half_character(text: str) -> re.Match[str] | None:
    r"""Return the first half of a surrogate pair, such as ``\ud83d``, in JSON; its group 1."""
    return next((match for match in _SURROGATES.finditer(text) if match[1]), None)
