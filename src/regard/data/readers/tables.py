"""Sentence pairs and lines read from files: TSV, CSV, JSONL, two aligned files, standard input.

Every reader works on the bytes of one line at a time, so that a fault is told with line and byte,
and only ``\\n`` and ``\\r\\n`` end a line: form feeds, U+0085 and U+2028 are text.  `read_pairs`
tells the first fault of a file and `find_problems` all of them, by one parser.
Cost: one pass, some 300,000 rows a second; `read_lines` holds one line at a time.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import msgspec

from regard.data.languages import is_language_code
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.source import DataSource, as_source
from regard.data.readers.text_lines import (
    TextFile,
    fixed_name,
    numbered_lines,
    without_end,
)
from regard.errors import ConfigError, DataError

_Lines = Iterator[tuple[int, str]]  # 1-based number, text with the end of the line
_Records = Iterator[tuple[int, list[str]]]  # 1-based line, cells
_Rows = Iterator[tuple[int, str, str]]  # 1-based line, source, target

_LONGEST_QUOTE = 60  # characters of a faulty line that a message repeats
_LONGEST_FIELD = 2**31 - 1  # characters of a CSV field: the most that csv takes everywhere
_FORMATS = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl"}
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_pairs(
    path: DataSource | str | Path,
    *,
    targets: DataSource | str | Path | None = None,
    encoding: str = "utf-8",
    columns: tuple[str, str] | None = None,
) -> ParallelCorpus:
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
    source = as_source(path)
    path = source.path
    file = TextFile(path, encoding, columns, problems=[], content=source.content)
    pairs = ParallelCorpus(path=file.name, sources=[], targets=[], lines=[])
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


def read_records(
    path: DataSource | str | Path, names: Sequence[str], *, encoding: str = "utf-8"
) -> Iterator[tuple[int, list[str]]]:
    """Read the named columns of every row; JSONL by key, CSV and TSV by their header.

    Args:
        path: The file, or ``-`` for standard input; the format is told as for `read_pairs`.
        names: Of the columns wanted.
        encoding: Of the file.

    Yields:
        The 1-based line of each row, and its texts in the order of `names`; numbers and truth
        values are written as JSON has them.

    Raises:
        DataError: The file is missing, or has rows that cannot be read (after the last).
        ConfigError: The encoding is unknown.
    """
    source = as_source(path)
    path = source.path
    file = TextFile(path, encoding, None, problems=[], content=source.content)
    yield from _named_rows(file, names)
    if file.problems:
        more = len(file.problems) - 1
        raise DataError(file.problems[0] + (f"  And {more:,} more like it." if more else ""))


def read_cells(file: TextFile) -> Iterator[tuple[int, list[str]]]:
    """Read every row of CSV or TSV, a header among them, its cells not looked at.

    Args:
        file: ``.csv`` has commas or semicolons, others tabs where the first line has one. What
            cannot be read is added to its problems.

    Yields:
        The 1-based line of each row, and its cells.
    """
    first, lines = _peek(numbered_lines(file))
    is_csv = Path(file.name).suffix.lower() == ".csv" or "\t" not in first
    separator = _csv_separator(first) if is_csv else "\t"
    yield from _csv_records(file, lines, separator) if is_csv else _tab_records(lines)


def _named_rows(file: TextFile, names: Sequence[str]) -> _Records:
    first, lines = _peek(numbered_lines(file))
    suffix = Path(file.name).suffix.lower()
    if suffix in (".jsonl", ".json") or first.lstrip().startswith("{"):
        yield from _json_records(file, lines, names)
        return
    is_csv = suffix == ".csv"
    separator = _csv_separator(first) if is_csv else "\t"
    records = _csv_records(file, lines, separator) if is_csv else _tab_records(lines)
    line, header = next(records, (1, []))
    missing = [name for name in names if name not in header]
    if missing:
        file.refuse(line, f'no column "{missing[0]}".  Columns seen: {", ".join(header)}.')
        return
    places = [header.index(name) for name in names]
    for line, cells in records:
        if len(cells) != len(header):
            file.refuse(line, _miscount(file.name, cells, len(header), separator))
        else:
            yield line, [cells[place] for place in places]


def _json_records(file: TextFile, lines: _Lines, names: Sequence[str]) -> _Records:
    for number, text in lines:
        if not text.strip():
            continue
        try:
            fields = _json_fields(text)
            yield number, [_json_text(fields, name) for name in names]
        except (msgspec.DecodeError, RecursionError) as error:
            file.refuse(number, f"not JSON: {error}.  {_quote(text)}")
        except DataError as error:
            file.refuse(number, f"{error}  {_quote(text)}")


def _json_text(fields: dict[str, object], name: str) -> str:
    if name not in fields:
        raise DataError(f'no key "{name}".  Keys seen: {", ".join(fields) or "none"}.')
    value = fields[name]
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    raise DataError(f'"{name}" is no text.')


def find_problems(
    path: DataSource | str | Path,
    *,
    targets: DataSource | str | Path | None = None,
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
    source = as_source(path)
    path = source.path
    file = TextFile(path, encoding, columns, problems=[], content=source.content)
    for _ in _rows(file, targets):
        pass
    return file.problems


def _rows(file: TextFile, targets: DataSource | str | Path | None) -> _Rows:
    """Parse a file in whichever format it has."""
    if targets is not None:
        other = as_source(targets)
        return _aligned_rows(file, file._replace(name=other.path, content=other.content))
    first, lines = _peek(numbered_lines(file))
    sniffed = "jsonl" if first.lstrip().startswith("{") else "tsv"
    file_format = _FORMATS.get(Path(file.name).suffix.lower(), sniffed)
    if file_format == "jsonl":
        return _json_rows(file, lines)
    if file_format == "tsv":
        return _cell_rows(file, _tab_records(lines), separator="\t")
    separator = _csv_separator(first)
    return _cell_rows(file, _csv_records(file, lines, separator), separator)


def _aligned_rows(file: TextFile, other: TextFile) -> _Rows:
    """Pair line i of one file with line i of another."""
    if file.name == other.name == "-":
        raise ConfigError("standard input holds one side only.  Name a file: --targets FILE")
    num_lines = num_other = 0
    sides = numbered_lines(file), numbered_lines(other)
    for line, (source, target) in enumerate(zip_longest(*sides), start=1):
        num_lines = line if source else num_lines
        num_other = line if target else num_other
        if source and target:
            yield line, without_end(source[1]), without_end(target[1])
    if num_lines != num_other and not file.problems:
        file.problems.append(
            f"{file.name}: {num_lines:,} line{'' if num_lines == 1 else 's'}, but {other.name} has "
            f"{num_other:,}.  Line by line they must be translations of each other."
        )


def _cell_rows(file: TextFile, records: _Records, separator: str) -> _Rows:
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
        hint = f"Keep two of them: cut -f1,2 {shlex.quote(name)} > {fixed_name(name)}"
    else:
        hint = f'A {_SEPARATORS[separator]} within a text? Put the text in quotes: "..."'
    seen, wanted = (_COUNTS[n] if n < len(_COUNTS) else str(n) for n in (len(cells), expected))
    noun = "column" if len(cells) == 1 else "columns"
    return f"{seen} {noun}, {wanted} expected.  {_quote(separator.join(cells))}  {hint}"


def _tab_records(lines: _Lines) -> _Records:
    for number, text in lines:
        if "\t" in text or text.strip():
            yield number, without_end(text).split("\t")


def _csv_separator(first: str) -> str:
    """Choose the first separator that stands in the first line, a comma where none does."""
    unquoted = re.sub('"[^"]*"?', "", first)
    return next((separator for separator in _SEPARATORS if separator in unquoted), ",")


def _csv_records(file: TextFile, lines: _Lines, separator: str) -> _Records:
    """Split lines into cells; a quoted cell may span lines."""
    record: list[str] = []

    def feed() -> Iterator[str]:
        for _, text in lines:
            body = without_end(text)
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


def _json_rows(file: TextFile, lines: _Lines) -> _Rows:
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


def _check_command(file: TextFile, targets: DataSource | str | Path | None) -> str:
    words = ["regard", "check", file.name]
    words += [] if targets is None else ["--targets", str(targets)]
    words += [] if file.encoding == "utf-8" else ["--encoding", file.encoding]
    return shlex.join(words)


def _quote(text: str) -> str:
    """Quote a text for a message: short, and on one line whatever it holds."""
    text = without_end(text)
    if len(text) > _LONGEST_QUOTE:
        text = text[: _LONGEST_QUOTE - 1] + "…"
    shown = (char if char.isprintable() else repr(char)[1:-1] for char in text)
    return f'"{"".join(shown)}"'.replace(r"\t", "<TAB>")
