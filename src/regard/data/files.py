"""Sentence pairs and lines read from files: TSV, CSV, JSONL, two aligned files, standard input.

Every reader works on the bytes of one line at a time, so that a fault is told with line and byte,
and only ``\\n`` and ``\\r\\n`` end a line: form feeds, U+0085 and U+2028 are text.  `read_pairs`
tells the first fault of a file and `find_problems` all of them, by one parser.
Cost: one pass, some 300,000 rows a second; `read_lines` holds one line at a time.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import hashlib
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from encodings.aliases import aliases
from io import TextIOWrapper
from itertools import chain, zip_longest
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from regard.data.languages import is_language_code
from regard.data.pairs import Pairs
from regard.errors import ConfigError, DataError

_Lines = Iterator[tuple[int, str]]  # 1-based number, text with the end of the line
_Records = Iterator[tuple[int, list[str]]]  # 1-based line, cells
_Rows = Iterator[tuple[int, str, str]]  # 1-based line, source, target

_LONGEST_QUOTE = 60  # characters of a faulty line that a message repeats
_LONGEST_FIELD = 2**31 - 1  # characters of a CSV field: the most that csv takes everywhere
_FORMATS = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl"}
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_MARKS = {  # UTF-32 before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_pairs(
    path: str | Path,
    *,
    targets: str | Path | None = None,
    encoding: str = "utf-8",
    columns: tuple[str, str] | None = None,
) -> Pairs:
    """Read sentence pairs.

    The suffix tells the format: ``.tsv`` and ``.txt`` hold ``source<TAB>target``, ``.csv`` commas
    or semicolons with or without a header, ``.jsonl`` and ``.json`` an object a line.  Files of
    other names and standard input are JSONL where they begin with ``{``, else TSV.  Blank lines are
    skipped (not in two aligned files), rows with an empty side are kept.

    Args:
        path: The file, or ``-`` for standard input.
        targets: A text file whose line i is the translation of line i of `path`.
        encoding: Of both files; a byte order mark is dropped.
        columns: Names of the source and target column in the header (JSONL: key); without it,
            source/target, src/tgt or two language codes are looked for.

    Returns:
        One row a pair, at least one.

    Raises:
        DataError: A file is missing, empty, or has rows that cannot be read.
        ConfigError: The encoding is unknown.
    """
    file = _File(str(path), encoding, columns, problems=[])
    pairs = Pairs(path=file.name, sources=[], targets=[], lines=[])
    for line, source, target in _rows(file, targets):
        pairs.sources.append(source)
        pairs.targets.append(target)
        pairs.lines.append(line)
    if file.problems:
        count = len(file.problems)
        more = f"  See all {count:,}: {_check_command(file, targets)}" if count > 1 else ""
        raise DataError(file.problems[0] + more)
    if not pairs:
        expected = "Expected one pair a line: source<TAB>target."
        raise DataError(f"{path}: the file is empty.  {expected}")
    return pairs


def find_problems(
    path: str | Path,
    *,
    targets: str | Path | None = None,
    encoding: str = "utf-8",
    columns: tuple[str, str] | None = None,
) -> list[str]:
    """Describe every row that `read_pairs` with the same arguments cannot read.

    Returns:
        ``FILE:LINE: problem.  "the text"  cause?`` for each, in the order of the file.

    Raises:
        DataError: A file is missing or cannot be opened.
        ConfigError: The encoding is unknown.
    """
    file = _File(str(path), encoding, columns, problems=[])
    for _ in _rows(file, targets):
        pass
    return file.problems


def read_lines(path: str | Path, *, encoding: str = "utf-8") -> Iterator[str]:
    """Read the lines of a text file one by one, without their ends; blank lines are lines.

    Args:
        path: The file, or ``-`` for standard input.
        encoding: Of the file; a byte order mark is dropped.

    Raises:
        DataError: The file is missing, or a line cannot be read (when it is reached).
        ConfigError: The encoding is unknown.
    """
    file = _File(str(path), encoding, columns=None, problems=[])
    for _, text in _lines(file):
        if file.problems:
            break
        yield _without_end(text)
    if file.problems:
        raise DataError(file.problems[0])


def file_hash(path: str | Path) -> str:
    """Compute the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DataError: The file is missing or cannot be opened.
    """
    digest = hashlib.sha256()
    with _open(str(path)) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class _File(NamedTuple):
    """A file to read, and what was found wrong with it."""

    name: str
    encoding: str
    columns: tuple[str, str] | None
    problems: list[str]

    def refuse(self, line: int, problem: str) -> None:
        self.problems.append(f"{self.name}:{line}: {problem}")


def _rows(file: _File, targets: str | Path | None) -> _Rows:
    """Parse a file in whichever format it has."""
    if targets is not None:
        return _aligned_rows(file, file._replace(name=str(targets)))
    first, lines = _peek(_lines(file))
    sniffed = "jsonl" if first.lstrip().startswith("{") else "tsv"
    file_format = _FORMATS.get(Path(file.name).suffix.lower(), sniffed)
    if file_format == "jsonl":
        return _json_rows(file, lines)
    if file_format == "tsv":
        return _cell_rows(file, _tab_records(lines), separator="\t")
    separator = _csv_separator(first)
    return _cell_rows(file, _csv_records(file, lines, separator), separator)


def _aligned_rows(file: _File, other: _File) -> _Rows:
    """Pair line i of one file with line i of another."""
    if file.name == other.name == "-":
        raise ConfigError("standard input holds one side only.  Name a file: --targets FILE")
    num_lines = num_other = 0
    for line, (source, target) in enumerate(zip_longest(_lines(file), _lines(other)), start=1):
        num_lines = line if source else num_lines
        num_other = line if target else num_other
        if source and target:
            yield line, _without_end(source[1]), _without_end(target[1])
    if num_lines != num_other and not file.problems:
        file.problems.append(
            f"{file.name}: {num_lines:,} line{'' if num_lines == 1 else 's'}, but {other.name} has "
            f"{num_other:,}.  Line by line they must be translations of each other."
        )


def _cell_rows(file: _File, records: _Records, separator: str) -> _Rows:
    """Take two cells of each record; the first record may be a header."""
    source, target, num_columns = 0, 1, 2
    for number, (line, cells) in enumerate(records):
        header = None if number else _find_header(cells, file.columns, separator)
        if header:
            missing = [name for name in header if name not in cells]
            if missing:
                seen = ", ".join(cells)
                return file.refuse(line, f'no column "{missing[0]}".  Columns seen: {seen}.')
            source, target, num_columns = *map(cells.index, header), len(cells)
        elif len(cells) != num_columns:
            file.refuse(line, _miscount(file.name, cells, num_columns, separator))
        else:
            yield line, cells[source], cells[target]
    return None


def _find_header(
    cells: list[str], columns: tuple[str, str] | None, separator: str
) -> tuple[str, str] | None:
    """Name the two columns to take, where the first record is a header."""
    found = columns or _choose_names(cells)
    # TSV has no header as a rule, and a word list may well begin with "so" and "da".
    is_text = separator == "\t" and columns is None and found and is_language_code(found[0])
    return None if is_text else found


def _choose_names(names: Sequence[str]) -> tuple[str, str] | None:
    """Choose the names of source and target among the columns of a file."""
    known = {name.strip().lower(): name for name in names}
    for source, target in (("source", "target"), ("src", "tgt")):
        if source in known and target in known:
            return known[source], known[target]
    codes = [name for key, name in known.items() if is_language_code(key)]
    if len(codes) > 2:  # then "id" is a number, not Indonesian
        codes = [name for name in codes if name.strip().lower() != "id"]
    return (codes[0], codes[1]) if len(codes) == 2 else None


def _miscount(name: str, cells: list[str], expected: int, separator: str) -> str:
    """Describe a record with too few or too many columns."""
    if len(cells) < expected:
        hint = f"Separated by spaces? Use a {_SEPARATORS[separator]}."
    elif separator == "\t":
        hint = f"Keep two of them: cut -f1,2 {shlex.quote(name)} > {_fixed(name)}"
    else:
        hint = f'A {_SEPARATORS[separator]} within a text? Put the text in quotes: "..."'
    seen, wanted = (_COUNTS[n] if n < len(_COUNTS) else str(n) for n in (len(cells), expected))
    noun = "column" if len(cells) == 1 else "columns"
    return f"{seen} {noun}, {wanted} expected.  {_quote(separator.join(cells))}  {hint}"


def _tab_records(lines: _Lines) -> _Records:
    for number, text in lines:
        if "\t" in text or text.strip():
            yield number, _without_end(text).split("\t")


def _csv_separator(first: str) -> str:
    """Choose the first separator that splits the first line, a comma where none does."""
    splits = (s for s in _SEPARATORS if len(next(csv.reader([first], delimiter=s), "")) > 1)
    return next(splits, ",")


def _csv_records(file: _File, lines: _Lines, separator: str) -> _Records:
    """Split lines into cells; a quoted cell may span lines."""
    record: list[str] = []

    def feed() -> Iterator[str]:
        for _, text in lines:
            body = _without_end(text)
            record.append(body)
            # A lone CR would end a row for csv; NUL, which no line holds, stands in for it.
            yield body.replace("\r", "\0") + text[len(body) :]

    reader = csv.reader(feed(), delimiter=separator, strict=True)
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        while True:
            record.clear()
            line = reader.line_num + 1
            try:
                cells = [cell.replace("\0", "\r") for cell in next(reader)]
            except csv.Error as error:
                file.refuse(line, f"{_csv_fault(str(error))}  {_quote(record[0])}")
            except StopIteration:
                return
            else:
                if len(cells) > 1 or "".join(cells).strip():
                    yield line, cells
    finally:
        csv.field_size_limit(limit)


def _csv_fault(error: str) -> str:
    if error == "unexpected end of data":
        return "a quote is opened here and never closed."
    return f"not CSV: {error}.  Quotes within a text are doubled and the text quoted."


def _json_rows(file: _File, lines: _Lines) -> _Rows:
    """Take the two texts of each line's object; the first object decides on the keys."""
    names = file.columns
    for number, text in lines:
        if not text.strip():
            continue
        try:
            fields = _json_fields(text)
            names = names or _choose_names(list(fields))
            source, target = _json_texts(fields, names or ("source", "target"))
        except (msgspec.DecodeError, RecursionError) as error:
            file.refuse(number, f"not JSON: {error}.  {_quote(text)}")
        except DataError as error:
            file.refuse(number, f"{error}  {_quote(text)}")
        else:
            yield number, source, target


def _json_fields(text: str) -> dict[str, object]:
    if text.startswith("["):
        raise DataError(
            "a list, one object a line expected.  Convert: jq -c '.[]' FILE > fixed.jsonl"
        )
    found = msgspec.json.decode(text)
    if not isinstance(found, dict):
        raise DataError('no object such as {"source": "...", "target": "..."}.')
    inner = found.get("translation")
    return inner if isinstance(inner, dict) else found


def _json_texts(fields: dict[str, object], names: tuple[str, str]) -> tuple[str, str]:
    for name in names:
        if name not in fields:
            raise DataError(f'no key "{name}".  Keys seen: {", ".join(fields) or "none"}.')
        if not isinstance(fields[name], str):
            raise DataError(f'"{name}" is no text.')
    return str(fields[names[0]]), str(fields[names[1]])


def _peek(lines: _Lines) -> tuple[str, _Lines]:
    """Look at the first line that is not blank."""
    seen = []
    for number, text in lines:
        seen.append((number, text))
        if text.strip():
            break
    return seen[-1][1] if seen else "", chain(seen, lines)


def _lines(file: _File) -> _Lines:
    """Decode a file line by line; a line that cannot be read is a problem, and then blank."""
    codec = _find_codec(file.encoding)
    with _open(file.name) as stream:
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
        hint = _did_you_mean(encoding.replace("-", "_"), known)
        hint = hint or "  Among those known: utf-8, utf-16, latin1, cp1252, gb18030, shift_jis."
        raise ConfigError(f'unknown encoding "{encoding}".{hint}') from error
    return name.removesuffix("-sig")  # else a mark would be dropped on every line


def _recode(file: _File, stream: BinaryIO) -> Iterator[bytes]:
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
        convert = f"iconv -f {likely} -t utf8 {shlex.quote(name)} > {_fixed(name)}"
        advice = f"Looks like {title}.  Convert: {convert}, or pass --encoding {likely}"
    elif likely:
        drop = f"iconv -c -f utf8 -t utf8 {shlex.quote(name)} > {_fixed(name)}"
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
    if re.search(rb"[\x80-\xff]{3}", raw):  # no western text has so many accents in a row
        return None
    return "cp1252" if re.search(rb"[\x80-\x9f]", raw) else "latin1"


@contextmanager
def _open(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(name).open("rb")  # noqa: SIM115 - only opening may fail in these ways
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"{name}: {_open_fault(Path(name), error)}") from error
    with stream:
        yield stream


def _open_fault(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        siblings: list[str] = []
        with suppress(OSError):
            siblings = [str(file) for file in path.parent.iterdir() if file.is_file()]
        return f"no such file.{_did_you_mean(str(path), siblings)}"
    if isinstance(error, IsADirectoryError | PermissionError) and path.is_dir():
        allowed = "TSV, CSV, JSONL, or two text files (--targets)"
        return f"a directory, not a file.  Name one file: {allowed}."
    if isinstance(error, PermissionError):
        return f"no permission to read it.  Allow it: chmod u+r {shlex.quote(str(path))}"
    return f"cannot be opened ({getattr(error, 'strerror', None) or error})."


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"  Did you mean {close[0]}?" if close else ""


def _check_command(file: _File, targets: str | Path | None) -> str:
    words = ["regard", "check", file.name]
    words += [] if targets is None else ["--targets", str(targets)]
    words += [] if file.encoding == "utf-8" else ["--encoding", file.encoding]
    return shlex.join(words)


def _fixed(name: str) -> str:
    return f"fixed{Path(name).suffix or '.tsv'}"


def _without_end(line: str) -> str:
    return line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")


def _quote(text: str) -> str:
    """Quote a text for a message: short, and on one line whatever it holds."""
    text = _without_end(text)
    if len(text) > _LONGEST_QUOTE:
        text = text[: _LONGEST_QUOTE - 1] + "…"
    shown = (char if char.isprintable() else repr(char)[1:-1] for char in text)
    return f'"{"".join(shown)}"'.replace(r"\t", "<TAB>")
