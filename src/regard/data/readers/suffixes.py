"""Suffixes of files: that of a name, and the one that fits what a stream begins with."""

from __future__ import annotations

import csv
import re
from pathlib import Path

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Suffixes of packed files."""
UNREAD = {
    ".tmx": "a translation memory (TMX)",
    ".xlf": "translations in XLIFF",
    ".xliff": "translations in XLIFF",
    ".po": "translations in gettext's PO",
    ".pot": "translations in gettext's PO",
    ".xml": "XML",
    **dict.fromkeys((".html", ".htm", ".xhtml"), "HTML"),
    ".tsf": "series in the format of Monash",
    ".ts": "series in the format of sktime",
    ".arff": "a table in ARFF",
    ".yaml": "YAML",
    ".yml": "YAML",
}
"""Formats of text that are not read as lines, by the suffix."""
MEMORY_ROOTS = {".tmx": "tmx", ".xlf": "xliff", ".xliff": "xliff"}
"""First elements of files of units, which are read as rows, by the suffix."""
_NUM_CSV_LINES = 20  # that must have the same number of cells
_OBJECTS = re.compile(r"\s*(?:\[\s*)?\{\s*(?:[\"'}]|$)")  # a text may begin with a bracket, too
_BYTE_ORDER_MARKS = b"\xef\xbb\xbf\xff\xfe\0"


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name in lower case; of a packed file, that before it.

    >>> suffix_of("Pairs.TSV"), suffix_of("pairs.tsv.gz")
    ('.tsv', '.tsv')
    """
    path = Path(name.lower())
    return path.with_suffix("").suffix if path.suffix in PACKED else path.suffix


def suffix_of_content(content: bytes) -> str:
    """Return the suffix of a file that begins with some bytes, by its first lines."""
    # The zeros between the characters of UTF-16 would hide the first character.
    first = content.lstrip(_BYTE_ORDER_MARKS).replace(b"\0", b"")
    lines = list(filter(str.strip, first.decode("latin-1").splitlines()))
    line = "".join(lines[:1]).lstrip()
    if any(map(_OBJECTS.match, (line, "".join(lines[:2])))):
        return ".jsonl"
    if "\t" in line:
        return ".tsv"
    return ".csv" if _is_csv(lines[:_NUM_CSV_LINES]) else ".txt"


def _is_csv(lines: list[str]) -> bool:
    """Return whether lines have the same number of cells; in text a space follows a comma."""
    for separator in ",;|":
        counts = {len(cells) for cells in csv.reader(lines, delimiter=separator)}
        if len(counts) == 1 and counts != {1} and f"{separator} " not in lines[0]:
            return len(lines) > 1
    return False
