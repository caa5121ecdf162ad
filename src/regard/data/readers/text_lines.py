"""Text files read line by line: any encoding, with line and byte of what cannot be read.

Only ``\\n`` and ``\\r\\n`` end a line: form feeds, U+0085 and U+2028 are text. In a file that has
no ``\\n`` at all, ``\\r`` does.
Cost: one pass; one line at a time is decoded.
"""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from encodings.aliases import aliases
from functools import cache, partial
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zipfile import BadZipFile, ZipFile

from regard.data.progress import tracked_lines
from regard.data.readers.problems import RowProblem
from regard.data.readers.source import (
    DataSource,
    SourceLike,
    as_source,
    open_file,
    standard_input,
)
from regard.data.readers.table_origin import TableOrigin
from regard.errors import ConfigError, DataError, did_you_mean

Lines = Iterator[tuple[int, str]]
"""1-based numbers of lines, and their text with the end of the line."""

_CP1252_QUOTES = "„…‘’“”–—".encode("cp1252")
_CONTROLS = re.compile(rb"[\x80-\x84\x86-\x9f]")  # of Latin-1, U+0085 (a line end) left out
_MARKS = {  # UTF-32 first, since its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_TITLES = {"latin1": "Latin-1", "cp1252": "Windows-1252"}
_ZIP = b"PK\x03\x04"
_BINARY = {
    _ZIP: ("a ZIP archive, or a document of Excel or Word", "Save it as CSV or text"),
    b"\xd0\xcf\x11\xe0": ("an old document of Excel or Word", "Save it as CSV or text"),
    b"%PDF": ("a PDF document", "Convert it to text: pdftotext"),
    b"{\\rtf": ("a document in RTF", "Save it as text"),
    b"PAR1": ("a Parquet file", "Name it as a file that ends in .parquet"),
    b"ARROW1\0": ("an Arrow file", "Name it as a file that ends in .arrow"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "Name it as a file that ends in .arrow"),
    b"FEA1": ("a Feather file of version 1", "Save it as Parquet or CSV"),
    b"version https://git-lfs": ("a pointer of Git LFS", "Fetch the data: git lfs pull"),
    b"ORC": ("an ORC file", "Save it as CSV or JSONL"),
    b"Obj\x01": ("an Avro file", "Save it as JSONL"),
    b"\x89HDF": ("an HDF5 file", "Save it as CSV or JSONL"),
    b"\x93NUMPY": ("an array of NumPy", "Save it as CSV: numpy.savetxt"),
    b"SQLite format 3": ("an SQLite database", "Export a table as CSV"),
    b"\x89PNG": ("an image", "Name a folder with one folder of images a label"),
    b"\xff\xd8\xff": ("an image", "Name a folder with one folder of images a label"),
    b"GIF8": ("an image", "Name a folder with one folder of images a label"),
    b"RIFF": ("a recording", "Name a folder with one folder of WAV files a label"),
    b"ID3": ("a recording in MP3", "Name a folder with one folder of WAV files a label"),
    b"fLaC": ("a recording in FLAC", "Name a folder with one folder of WAV files a label"),
    b"OggS": ("a recording in Ogg", "Name a folder with one folder of WAV files a label"),
    b"7z\xbc\xaf": ("a 7-Zip archive", "Unpack it"),
    b"Rar!": ("a RAR archive", "Unpack it"),
    b"\x1f\x8b": ("a file packed by gzip", "Unpack it: gzip -dc"),
    b"\x28\xb5\x2f\xfd": ("a file packed by Zstandard", "Unpack it: zstd -dc"),
    b"BZh": ("a bzip2 archive", "Unpack it: bunzip2"),
    b"\xfd7zXZ": ("an xz archive", "Unpack it: unxz"),
}
"""Files that are not text, by their first bytes, and what to do with them."""
_ZIPPED = {
    "xl/": ("an Excel workbook", "Save it as CSV"),
    "word/": ("a Word document", "Save it as text"),
    "ppt/": ("a PowerPoint presentation", "Save it as text"),
    "content.xml": ("a document of LibreOffice", "Save it as CSV or text"),
    "META-INF/container.xml": ("an EPUB book", "Convert it to text"),
}
"""Documents that are ZIP archives, by the beginning of the name of a file in them."""
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a]")  # a text may begin with "ORC", too
_SEARCHED = 4096  # bytes that are searched for it
_TAR = slice(257, 262)  # where "ustar" is, in the header of the first file


def read_lines(data: SourceLike, *, encoding: str = "utf-8") -> Iterator[str]:
    """Return the lines of a text file one by one, without their ends; blank lines are lines.

    A file by its name is not read into memory: each line is returned as soon as it has arrived. A
    byte order mark is dropped.

    Yields:
        The lines.

    Raises:
        DataError: The file is missing, or a line cannot be read (when it is reached).
    """
    if isinstance(data, DataSource):
        file = open_text(data, encoding)
    else:
        file = TextFile(str(data), encoding, content=None, problems=[])
    for _, text in numbered_lines(file):
        if file.problems:
            break
        yield without_end(text)
    if file.problems:
        raise DataError(str(file.problems[0]))


class TextFile(NamedTuple):
    """A text file, and the problems in it.

    Args:
        name: Name that the user wrote.
        encoding: Encoding of its bytes.
        content: Its bytes; None if they are read from the file of that name, line by line.
        problems: Lines that cannot be read; readers append to it.
        table: Where the lines come from if they are the rows of tables.
    """

    name: str
    encoding: str
    content: bytes | None
    problems: list[RowProblem]
    table: TableOrigin | None = None

    def refuse(
        self,
        line: int | None,
        reason: str,
        text: str | None = None,
        remedy: str = "",
        *,
        json_path: str = "",
    ) -> None:
        """Append a problem of a line, of a path in a nested file, or of the file as a whole."""
        file_row = "" if self.table is None or line is None else self.table.locate(line)
        self.problems.append(RowProblem(self.name, line, reason, text, remedy, json_path, file_row))


def open_text(data: SourceLike, encoding: str) -> TextFile:
    """Read the bytes of a text file; nothing is decoded."""
    source = as_source(data)
    has_encoding = source.table is not None and source.table.has_encoding
    encoding = "utf-8" if has_encoding else encoding
    return TextFile(source.path, encoding, source.content, [], source.table)


def numbered_lines(file: TextFile) -> Lines:
    """Decode a file line by line; a line that cannot be read becomes a problem and a blank line."""
    codec = _find_codec(file.encoding)
    guess = _encoding_guesser(file.content, codec)
    is_wide = "\n".encode(codec) != b"\n"  # UTF-16 and the like, where no single byte ends a line
    codec = "utf-8" if is_wide else codec
    for number, raw in enumerate(_raw_lines(file, is_wide=is_wide), start=1):
        text = _decode(raw, codec)
        if text is None:
            reason, remedy = _describe_fault(raw, codec, file.name, guess)
            file.refuse(number, reason, remedy=remedy)
            if _are_all_alike(number, raw):
                return
            text = "\n"
        yield number, text.removeprefix("\ufeff")  # files that were joined have one within


def _raw_lines(file: TextFile, *, is_wide: bool) -> Iterator[bytes]:
    """Yield the bytes of each line, in UTF-8 where `is_wide`; none of a file that is not text."""
    content = file.content
    if content is not None and _refuse_binary(file, content):
        return
    with _open(file) as stream:
        lines = _split_at_returns(_recode(file, stream) if is_wide else iter(stream))
        if content is not None:
            lines = iter(tracked_lines(lines, file.name, len(content)))
        yield from lines if content is not None else _unless_binary(file, lines)


def _unless_binary(file: TextFile, lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream; none where its first one is not text, which is a problem."""
    first = next(lines, b"")
    if first and not _refuse_binary(file, first):
        yield first
        yield from lines


def _are_all_alike(number: int, raw: bytes) -> bool:
    """Return whether all lines of a file are like a line that cannot be decoded."""
    return _find_wide_encoding(raw) is not None or (number == 1 and b"\0" in raw)


def _encoding_guesser(content: bytes | None, codec: str) -> Callable[[bytes], str | None]:
    """Return what guesses the encoding of a line that a codec cannot decode.

    It guesses once, from all such lines of a file whose bytes are known; else from the line alone.
    """
    if content is None:
        return _guess_encoding
    guess = cache(partial(_guess_from_faults, content, codec))
    return lambda _: guess()


def _guess_from_faults(content: bytes, codec: str) -> str | None:
    """Guess the encoding of a file from all its lines that a codec cannot decode."""
    lines = (raw for raw in content.split(b"\n") if not raw.isascii())
    return _guess_encoding(b"\n".join(raw for raw in lines if _decode(raw, codec) is None))


def fixed_name(name: str) -> str:
    """Return the name of the file that a suggested command writes, with the same suffix."""
    return f"fixed{Path(name).suffix or '.tsv'}"


def without_end(line: str) -> str:
    """Return a line without its end."""
    return line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")


def _find_codec(encoding: str) -> str:
    try:
        "\n".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        candidates = [alias for alias in aliases if alias != encoding]  # "hex" is not for text
        hint = did_you_mean(encoding.replace("-", "_"), candidates)
        hint = hint or "  Among those known: utf-8, utf-16, latin1, cp1252, gb18030, shift_jis."
        raise ConfigError(f'unknown encoding "{encoding}".{hint}') from error
    return name.removesuffix("-sig")  # which would drop a mark on every line


@contextmanager
def _open(file: TextFile) -> Iterator[BinaryIO]:
    if file.content is not None:
        yield BytesIO(file.content)
    elif file.name == "-":
        yield standard_input("-")
    else:
        with open_file(file.name) as stream:
            yield stream


def _split_at_returns(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines, those that end with CR in a file whose first line has no other end."""
    first = next(lines, b"")
    if b"\r" in first and not first.endswith(b"\n"):
        yield from (line + b"\n" for line in first.removesuffix(b"\r").split(b"\r"))
    elif first:
        yield first
    yield from lines


def _refuse_binary(file: TextFile, content: bytes) -> bool:
    """Return whether a file is not text by its first bytes or all; then that is its problem."""
    binary = _find_binary(content)
    if binary is not None:
        kind, remedy = binary
        file.refuse(None, f"{kind}, not text.", remedy=f"{remedy}.")
    return binary is not None


def _find_binary(content: bytes) -> tuple[str, str] | None:
    """Return what a file that is not text is, and what to do with it, by its bytes."""
    if content[_TAR] == b"ustar":
        return "a tar archive", "Unpack it: tar -xf"
    start = next(filter(content.startswith, _BINARY), None)
    if start is None or (start.isalnum() and not _NO_TEXT.search(content, 0, _SEARCHED)):
        return None
    return _describe_zip(content) if start == _ZIP else _BINARY[start]


def _describe_zip(content: bytes) -> tuple[str, str]:
    """Return which document a ZIP archive is, by the names in it, and what to do with it."""
    with suppress(BadZipFile, OSError, ValueError, NotImplementedError):
        names = ZipFile(BytesIO(content)).namelist()
        documents = [begin for begin in _ZIPPED if any(name.startswith(begin) for name in names)]
        return _ZIPPED[documents[0]] if documents else ("a ZIP archive", "Unpack it: unzip")
    return _BINARY[_ZIP]


def _describe_fault(
    raw: bytes, codec: str, name: str, guess: Callable[[bytes], str | None]
) -> tuple[str, str]:
    """Return why a line cannot be decoded, and the remedy."""
    likely = _find_wide_encoding(raw)
    if b"\0" in raw and not raw.startswith(tuple(_MARKS)):
        reason = f"a NUL byte at byte {raw.index(0) + 1}."
        remedy = "Text files hold none; is this a binary file?"
    else:
        reason = _find_undecodable_byte(raw, codec)
        remedy = "Which encoding is it? Name it, such as `data.encoding=cp1251`"
        likely = likely or guess(raw)
    fixed = f"{shlex.quote(name)} > {fixed_name(name)}"
    if likely == codec:
        remedy = f"A damaged character?  Drop it: iconv -c -f utf8 -t utf8 {fixed}"
    elif likely:
        title = _TITLES.get(likely, likely[:6].upper())
        convert = f"iconv -f {likely} -t utf8 {fixed}"
        remedy = f"Looks like {title}.  Convert: {convert}, or pass `data.encoding={likely}`"
    return reason, remedy


def _recode(file: TextFile, stream: BinaryIO) -> Iterator[bytes]:
    """Convert the lines of any encoding to UTF-8."""
    wrapper = TextIOWrapper(stream, encoding=file.encoding, newline="\n")
    try:
        yield from map(str.encode, wrapper)
    except UnicodeError as error:
        remedy = "Name another: `data.encoding=utf-8`"
        file.refuse(None, f"not {file.encoding} ({error}).", remedy=remedy)
    finally:
        wrapper.detach()  # the stream stays open


def _decode(raw: bytes, codec: str) -> str | None:
    """Decode a line; return None if that fails or yields control characters."""
    if b"\0" in raw or (codec == "iso8859-1" and _CONTROLS.search(raw)):
        return None
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _find_undecodable_byte(raw: bytes, codec: str) -> str:
    """Return which byte of a line cannot be decoded."""
    try:
        raw.decode(codec)
    except UnicodeDecodeError as error:
        title = "UTF-8" if codec == "utf-8" else codec
        return f"not {title} at byte {error.start + 1} (0x{raw[error.start]:02X})."
    control = _CONTROLS.search(raw)
    assert control is not None
    return f"a control character at byte {control.start() + 1} (0x{raw[control.start()]:02X})."


def _find_wide_encoding(raw: bytes) -> str | None:
    """Return UTF-16 or UTF-32 if the first line of a file has their marks or zeros."""
    for mark, encoding in _MARKS.items():
        if raw.startswith(mark):
            return encoding
    num_even, num_odd = raw[::2].count(0), raw[1::2].count(0)
    if min(num_even, num_odd) > 0 or 3 * (num_even + num_odd) <= len(raw):
        return None
    return "utf-16le" if num_odd else "utf-16be"


def _guess_encoding(raw: bytes) -> str | None:
    """Guess the encoding of lines that cannot be decoded: UTF-8 with damage, or a western one."""
    decoded = raw.decode("utf-8", "replace")
    if sum(not char.isascii() for char in decoded) > 2 * decoded.count("\ufffd"):
        return "utf-8"
    letters = raw.translate(None, _CP1252_QUOTES)
    if re.search(rb"[\x80-\xff]{3}", letters):  # three accents in a row: not a western text
        return None
    if not re.search(rb"[\x80-\x9f]", raw):
        return "latin1"
    try:
        raw.decode("cp1252")
    except UnicodeDecodeError:  # a byte without a character
        return None
    return "cp1252"
