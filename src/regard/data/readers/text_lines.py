"""Text files read line by line: any encoding, with line and byte of what cannot be read.

Only ``\\n`` and ``\\r\\n`` end a line: form feeds, U+0085 and U+2028 are text.
Cost: one pass; one line at a time is held.
"""

from __future__ import annotations

import codecs
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from encodings.aliases import aliases
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import BinaryIO, NamedTuple

from regard.data.readers.source import DataSource, did_you_mean, open_file
from regard.errors import ConfigError, DataError

_Lines = Iterator[tuple[int, str]]  # 1-based number, text with the end of the line
_CP1252_QUOTES = "„…‘’“”–—".encode("cp1252")
_MARKS = {  # UTF-32 before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_lines(data: DataSource | str | Path, *, encoding: str = "utf-8") -> Iterator[str]:
    """Read the lines of a text file one by one, without their ends; blank lines are lines.

    Args:
        data: A source, or the name of a file (``-`` for standard input), which is not read into
            memory: a line is given as soon as it has arrived.
        encoding: Of the file; a byte order mark is dropped.

    Raises:
        DataError: The file is missing, or a line cannot be read (when it is reached).
        ConfigError: The encoding is unknown.
    """
    content = data.content if isinstance(data, DataSource) else None
    name = data.path if isinstance(data, DataSource) else str(data)
    file = TextFile(name, encoding, columns=None, problems=[], content=content)
    for _, text in numbered_lines(file):
        if file.problems:
            break
        yield without_end(text)
    if file.problems:
        raise DataError(file.problems[0])


class TextFile(NamedTuple):
    """A file to read, and what was found wrong with it."""

    name: str
    encoding: str
    columns: tuple[str, str] | None
    problems: list[str]
    content: bytes | None = None  # None: read from the file of that name, line by line

    def refuse(self, line: int, problem: str) -> None:
        """Note what is wrong with a line."""
        self.problems.append(f"{self.name}:{line}: {problem}")


def numbered_lines(file: TextFile) -> _Lines:
    """Decode a file line by line; a line that cannot be read is a problem, and then blank."""
    codec = _find_codec(file.encoding)
    with _open(file) as stream:
        raw_lines: Iterator[bytes] = iter(stream)
        if "\n".encode(codec) != b"\n":  # UTF-16 and the like, where no single byte ends a line
            raw_lines, codec = _recode(file, stream), "utf-8"
        for number, raw in enumerate(raw_lines, start=1):
            try:
                text = _decode(raw, file.name, codec)
            except DataError as error:
                file.refuse(number, str(error))
                if _find_wide_encoding(raw):
                    return
                text = "\n"
            yield number, text.removeprefix("\ufeff") if number == 1 else text


def _find_codec(encoding: str) -> str:
    try:
        "\n".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        known = [alias for alias in aliases if alias != encoding]  # "hex" is known, but no text
        hint = did_you_mean(encoding.replace("-", "_"), known)
        hint = hint or "  Among those known: utf-8, utf-16, latin1, cp1252, gb18030, shift_jis."
        raise ConfigError(f'unknown encoding "{encoding}".{hint}') from error
    return name.removesuffix("-sig")  # else a mark would be dropped on every line


def _recode(file: TextFile, stream: BinaryIO) -> Iterator[bytes]:
    """Bring the lines of any encoding into UTF-8."""
    wrapper = TextIOWrapper(stream, encoding=file.encoding, newline="\n")
    try:
        yield from map(str.encode, wrapper)
    except UnicodeError as error:
        file.problems.append(
            f"{file.name}: not {file.encoding} ({error}).  Name another: --encoding utf-8"
        )
    finally:
        wrapper.detach()  # who opened the stream closes it


def _decode(raw: bytes, name: str, codec: str) -> str:
    """Decode a line; where that fails, a DataError names byte, likely cause and remedy."""
    if b"\0" in raw and not raw.startswith(tuple(_MARKS)):
        likely = _find_wide_encoding(raw)
        fault = f"a NUL byte at byte {raw.index(0) + 1}."
        advice = "Text files hold none; is this a binary file?"
    else:
        try:
            return raw.decode(codec)
        except UnicodeDecodeError as error:
            shown = "UTF-8" if codec == "utf-8" else codec
            fault = f"not {shown} at byte {error.start + 1} (0x{raw[error.start]:02X})."
            advice = "Which encoding is it? Name it, such as --encoding cp1251"
        likely = _find_wide_encoding(raw) or _guess_encoding(raw)
    if likely and likely != codec:
        title = {"latin1": "Latin-1", "cp1252": "Windows-1252"}.get(likely, likely[:6].upper())
        convert = f"iconv -f {likely} -t utf8 {shlex.quote(name)} > {fixed_name(name)}"
        advice = f"Looks like {title}.  Convert: {convert}, or pass --encoding {likely}"
    elif likely:
        drop = f"iconv -c -f utf8 -t utf8 {shlex.quote(name)} > {fixed_name(name)}"
        advice = f"A damaged character?  Drop it: {drop}"
    raise DataError(f"{fault}  {advice}")


def _find_wide_encoding(raw: bytes) -> str | None:
    """Recognise UTF-16 and UTF-32 by the first line of a file."""
    for mark, encoding in _MARKS.items():
        if raw.startswith(mark):
            return encoding
    num_even, num_odd = raw[::2].count(0), raw[1::2].count(0)
    if min(num_even, num_odd) > 0 or 3 * (num_even + num_odd) <= len(raw):
        return None
    return "utf-16le" if num_odd else "utf-16be"


def _guess_encoding(raw: bytes) -> str | None:
    """Guess the encoding of a line that is not clean UTF-8, which damaged UTF-8 still is."""
    decoded = raw.decode("utf-8", "replace")
    if sum(not char.isascii() for char in decoded) > 2 * decoded.count("\ufffd"):
        return "utf-8"
    letters = raw.translate(None, _CP1252_QUOTES)
    if re.search(rb"[\x80-\xff]{3}", letters):  # no western text has so many accents in a row
        return None
    return "cp1252" if re.search(rb"[\x80-\x9f]", raw) else "latin1"


@contextmanager
def _open(file: TextFile) -> Iterator[BinaryIO]:
    if file.content is not None:
        yield BytesIO(file.content)
    elif file.name == "-":
        yield sys.stdin.buffer
    else:
        with open_file(file.name) as stream:
            yield stream


def fixed_name(name: str) -> str:
    """Name the file that a suggested command writes: of the same suffix."""
    return f"fixed{Path(name).suffix or '.tsv'}"


def without_end(line: str) -> str:
    """Take the line end off."""
    return line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")
