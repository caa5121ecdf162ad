"""The input of a verb: text of the command line, a file, or standard input."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regard.cli.outputs import print_note
from regard.cli.parameters import AsText
from regard.cli.progress import show_stages
from regard.data.readers.suffixes import UNREAD, suffix_of
from regard.errors import ConfigError, DataError

if TYPE_CHECKING:
    from regard.data.readers.shape import DataShape
    from regard.data.readers.source import DataSource

_NUM_LINES = 20  # by which labels of fastText are recognized
_SEARCHED = 4096  # bytes by which HTML is recognized
_FILE_NAME = re.compile(r"(?:\.{0,2}/|~/)\S+|\S*\w\.[A-Za-z]\w{1,4}")


@Parameter(name="*")
@dataclass(frozen=True)
class TextOptions:
    """How the word TEXT of a command line is read.

    Attributes:
        as_text: Take TEXT as text even where a file of that name exists.
        encoding: Encoding of the input.
    """

    as_text: Annotated[bool, AsText] = False
    encoding: str = "utf-8"


TEXT_DEFAULTS = TextOptions()
"""No option is set."""


def refuse_text_options(options: TextOptions, unit: str) -> None:
    """Raise ConfigError where options of texts are set for a model of a unit such as images."""
    if options != TEXT_DEFAULTS:
        option = "--text" if options.as_text else "--encoding"
        raise ConfigError(f"{option} is for texts, and this model reads {unit}.  Leave it out.")


def input_lines(
    text: str | None, options: TextOptions, *, role: str, columns: Sequence[str] = ()
) -> Iterable[str]:
    """Return the lines of a file if one of that name exists, else of the text itself.

    Parquet, JSONL, CSV, TSV and lines of fastText give the texts in one field, each on one line; so
    do JSONL and fastText from standard input, as their lines come. A text that looks like the name
    of a file that does not exist is noted on standard error.

    Args:
        text: The word of the command line; None or ``-`` is standard input.
        options: How it is read.
        role: What the field holds, ``text`` or ``source``; it may have a synonym as its name.
        columns: Columns that the model was trained on, of which the first is the field of a table.

    Raises:
        DataError: The file cannot be read, or lacks the field.
    """
    name = "-" if text is None else text
    if options.as_text:
        return _file_lines("-", options.encoding) if text is None else name.split("\n")
    if not _is_file(name):
        return name.split("\n") if name.strip() else [name]
    return _lines_of(name, options.encoding, role, columns)


def _lines_of(name: str, encoding: str, role: str, columns: Sequence[str]) -> Iterable[str]:
    """Return the texts of a file that are in one field, or its lines."""
    if _is_folder_of_tables(name):
        return map(_on_one_line, _field_texts(name, encoding, role, columns))
    if (page := page_text(name, encoding)) is not None:
        return page.split("\n")
    if _is_stream(name):
        return _streamed_texts(name, encoding, role, _on_one_line)
    if _is_table(name, encoding):
        return map(_on_one_line, _field_texts(name, encoding, role, columns))
    if contents := UNREAD.get(suffix_of(name)):
        raise DataError(f"{name}: {contents}, not one text a line.")
    return _file_lines(name, encoding)


def _on_one_line(text: str) -> str:
    """Return a text with spaces for the ends of its lines."""
    return " ".join(re.split("\r\n|[\r\n]", text))


def input_documents(text: str | None, options: TextOptions) -> Iterable[str]:
    """Return the documents of a file if one of that name exists, else the text itself.

    Args:
        text: The word of the command line; None or ``-`` is standard input.
        options: How it is read.

    Returns:
        The document of each row of Parquet, JSONL, CSV and TSV, and each line of standard input, or
        the document of each of its rows of JSONL; any other file is one document.

    Raises:
        DataError: The file is empty, cannot be read, or has no column of documents.
    """
    name = "-" if text is None else text
    if options.as_text:
        return _file_lines("-", options.encoding) if text is None else [name]
    return _documents_of(name, options.encoding) if _is_file(name) else [name]


def _documents_of(name: str, encoding: str) -> Iterable[str]:
    """Return the documents of a file: of each of its rows, or it as a whole.

    Raises:
        DataError: It is empty.
    """
    if name == "-":
        return _streamed_texts(name, encoding, "document", str)
    if _is_folder_of_tables(name) or (not _is_stream(name) and _is_table(name, encoding)):
        return _field_texts(name, encoding, "document", ())
    if (page := page_text(name, encoding)) is not None:
        return [page]
    document = "\n".join(_file_lines(name, encoding))
    if not document.strip():
        raise DataError(f"{name}: the file is empty.  Expected a document.")
    return [document]


def page_text(name: str, encoding: str) -> str | None:
    """Return the text of a file of HTML, and note how it is read; None for any other file.

    Raises:
        DataError: It cannot be read, or has no text.
    """
    from regard.data.readers.html_text import is_html, read_html
    from regard.data.readers.source import open_file, open_source

    if not os.path.isfile(name):  # noqa: PTH113 - any name; what is missing is said by its reader
        return None
    with open_file(name) as stream:
        if not is_html(name, stream.read(_SEARCHED)):
            return None
    with show_stages():
        text = read_html(open_source(name), encoding)
    print_note(f"{name}: read as HTML, its text without tags.")
    return text


def note_table(name: str) -> None:
    """Note on standard error that a file of rows is read as one text.

    Raises:
        DataError: It is a directory.
    """
    is_file = os.path.exists(name) and _is_file(name)  # noqa: PTH110 - any name
    if is_file and not _is_stream(name) and _is_table(name, "utf-8"):
        print_note(f"{name}: read as one text, not as rows.")


def _is_file(text: str) -> bool:
    """Return whether a word of the command line is a file's name, and note if it only looks so.

    Raises:
        DataError: It is a directory without tables.
    """
    if text == "-":
        return True
    if not text.strip():
        return False
    try:
        mode = Path(text).stat().st_mode
    except (OSError, ValueError):  # no such file, or too long for the name of one
        if _FILE_NAME.fullmatch(text):
            print_note(f"{text}: no such file, so it is a text.")
        return False
    if stat.S_ISDIR(mode) and not _is_folder_of_tables(text):
        raise DataError(f"{text}: a directory, not a file.  Name a file of text.")
    return True


def _is_folder_of_tables(name: str) -> bool:
    """Return whether a name is that of a folder of Parquet, Arrow or JSONL."""
    from regard.data.readers.table_folders import select_row_files

    path = Path(name)
    return name != "-" and path.is_dir() and bool(select_row_files(path.rglob("*")))


def _is_packed(name: str) -> bool:
    from regard.data.readers.suffixes import PACKED

    return name.lower().endswith(PACKED)


def _is_stream(name: str) -> bool:
    """Return whether a file is standard input, a pipe or a device, which is read as it comes."""
    return name == "-" or not stat.S_ISREG(Path(name).stat().st_mode)


def _is_table(name: str, encoding: str) -> bool:
    """Return whether a file has rows by its name, such as CSV, or begins as JSON or fastText's."""
    from regard.data.readers import FORMATS, ROW_FORMATS, TABLE_READERS

    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    suffix = next(iter(suffixes[-2:-1] if _is_packed(name) else suffixes[-1:]), "")
    is_named = FORMATS.get(suffix) in {"jsonl", *TABLE_READERS, *ROW_FORMATS}
    return is_named or _has_units(name) or _has_records(name, suffix, encoding)


def _has_units(name: str) -> bool:
    """Return whether a file is TMX or XLIFF by its beginning, whose units become rows."""
    from regard.data.readers.source import open_file
    from regard.data.readers.table_bytes import find_memory_form

    with open_file(name) as stream:
        return bool(find_memory_form(stream.read(_SEARCHED)))


def _has_records(name: str, suffix: str, encoding: str) -> bool:
    """Return whether a file begins with a label of fastText, or with objects of JSON."""
    from regard.data.readers.fasttext import are_fasttext
    from regard.data.readers.json_lists import holds_objects
    from regard.data.readers.source import open_source
    from regard.data.readers.text_lines import TextFile, open_text

    with suppress(DataError):  # which is raised again where the lines are read
        if are_fasttext(list(islice(filter(str.strip, _file_lines(name, encoding)), _NUM_LINES))):
            return True
        is_packed = _is_packed(name)
        file = (
            open_text(open_source(name), encoding)
            if is_packed
            else TextFile(name, encoding, None, [])
        )
        return holds_objects(file, suffix)
    return False


def _file_lines(name: str, encoding: str) -> Iterator[str]:
    """Return the lines of a file of text, or of standard input as they come."""
    from regard.data.readers.source import open_source
    from regard.data.readers.text_lines import read_lines

    is_whole = name != "-" and (_is_stream(name) or _is_packed(name))
    return read_lines(open_source(name) if is_whole else name, encoding=encoding)


def _streamed_texts(
    name: str, encoding: str, role: str, convert: Callable[[str], str]
) -> Iterator[str]:
    """Return the texts of a stream as they come, those of records converted; note their field.

    Standard input is read line by line, a pipe or a device to its end.
    """
    from regard.data.readers.source import open_source
    from regard.data.readers.streamed_texts import stream_texts
    from regard.data.readers.text_lines import TextFile, open_text

    is_input = name == "-"
    file = (
        TextFile(name, encoding, None, []) if is_input else open_text(open_source(name), encoding)
    )
    find_field, on_field = partial(_find_field, role=role), partial(_note_column, name)
    return stream_texts(file, find_field, on_field, convert)


def _find_field(names: Sequence[str], role: str) -> str | None:
    """Return which of some columns or keys holds the texts; None where none has a name for them."""
    from regard.data.readers.columns import find_column, find_roles

    if role == "document":
        return find_column(names, role)
    return _field_of_role(find_roles(names, is_table=False), role) or find_column(names, role)


def _field_of_role(fields: Mapping[str, str], role: str) -> str | None:
    """Return the field with the texts of a role, or with those that other tasks read.

    Args:
        fields: Columns or keys by what they hold.
        role: ``source``, ``text``, ``question`` or another.
    """
    return fields.get(role) or fields.get("text" if role == "source" else "source")


def _note_column(name: str, column: str) -> None:
    """Note on standard error that a file is read as rows."""
    print_note(f"{name}: read as a table, column {column}.")


def _field_texts(name: str, encoding: str, role: str, columns: Sequence[str]) -> list[str]:
    """Return the texts of one field, and note which field it is.

    It is the first of the columns of the model, where the file has that. TSV without a header has
    it in its first column.
    """
    from regard.data.readers.numbered_columns import are_numbers_of_columns
    from regard.data.readers.shape import inspect_shape
    from regard.data.readers.source import open_source
    from regard.data.readers.tables import read_records

    source = open_source(name)
    shape = inspect_shape(source, encoding)
    is_tsv = source.suffix == ".tsv"
    column = _find_column(shape, role, is_tsv=is_tsv)
    of_model = "".join(columns[:1])
    is_number = shape.kind == "table" and are_numbers_of_columns(columns, shape.names)
    if of_model and (is_number or of_model in shape.names):
        column = of_model
    if column is None and is_tsv and shape.kind != "records":
        column, texts = "1", _first_cells(source, encoding)
    else:
        column = column or role
        texts = [text for _, (text,) in read_records(source, (column,), encoding=encoding)]
    _note_column(name, column)
    return texts


def _find_column(shape: DataShape, role: str, *, is_tsv: bool) -> str | None:
    """Return the column with the texts; None where none has a name that says so."""
    from regard.data.readers.columns import find_column, is_language_code

    if role == "document":
        return find_column(shape.names, role)
    column = _field_of_role(shape.columns, role)
    if is_tsv and column is not None and is_language_code(column):
        return None  # a word list may begin with "so" and "da"
    return column


def _first_cells(source: DataSource, encoding: str) -> list[str]:
    """Return the first cell of each line of a table without a header."""
    from regard.data.readers.problems import require_readable
    from regard.data.readers.table_format import read_cells
    from regard.data.readers.text_lines import open_text

    file = open_text(source, encoding)
    texts = [cells[0] for _, cells in read_cells(file, source.suffix)]
    require_readable(file.problems)
    return texts
