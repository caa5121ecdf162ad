"""The shape of a file or folder, by which its task is chosen.

It is the kind of file, the names of columns or keys in its first record, whether the first row
below holds numbers, and whether the first rows are series with times. Nothing here depends on
tasks. Cost: the first lines of a file, the names in a folder.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Literal

import msgspec

from regard.data.readers import FORMATS
from regard.data.readers.columns import SUMMARY_ROLES, find_column, find_pair, find_roles
from regard.data.readers.fasttext import are_fasttext
from regard.data.readers.headers import find_label, hold_only_numbers
from regard.data.readers.html_text import HTML_SUFFIXES, is_html
from regard.data.readers.idx import find_idx, is_idx
from regard.data.readers.json_advice import holds_annotations, holds_categories
from regard.data.readers.json_lines import json_fields, sample_cells
from regard.data.readers.json_lists import keys_of, record_lines
from regard.data.readers.label_sets import holds_label_sets
from regard.data.readers.labeled_folders import describe_kinds
from regard.data.readers.multi_labeled import FLAGS, is_unlabeled
from regard.data.readers.series import is_date, is_like_number
from regard.data.readers.series_tables import is_time_series
from regard.data.readers.source import DataSource, describe_folder_as_file
from regard.data.readers.squad import is_squad
from regard.data.readers.suffixes import MEMORY_ROOTS, UNREAD
from regard.data.readers.table_format import read_cells
from regard.data.readers.tables import sample_records
from regard.data.readers.text_lines import Lines, open_text, read_lines
from regard.errors import DataError

DataKind = Literal["idx", "images", "recordings", "squad", "records", "table", "text"]

_LAYOUTS = "{}/LABEL/FILE.wav or FILE.png, or MNIST's train-images-idx3-ubyte.gz."
_TEXT_OF_PAGES = (
    'python -c "import sys, regard.data.readers as r; '
    '[print(r.read_html(r.open_source(page))) for page in sys.argv[1:]]"'
)
_FORMS = "TSV, CSV or JSONL: source and target, text and label, or time and value in a row"
_FOLDER_KINDS: dict[str, DataKind] = {"audio": "recordings", "image": "images"}
_KIND_OF_MEDIA: dict[str, DataKind] = {"images": "images", "recordings": "recordings"}
_TEXT_SUFFIXES = {".txt", ".md", ".rst", ".text"}
_ONE_FILE_OF_TEXTS = (
    "Texts are read from one file: running text joined into one .txt, labelled texts as "
    '{"text": ..., "label": ...} a line of a .jsonl, or as one folder of .txt a label.'
)
_TAGGED = re.compile(r"\S+(?:[ \t]\S+){0,3}[ \t](?:O|[BIESLU]-\S+)|-DOCSTART-.*")
_MOST_TAGGED = 0.9  # of the lines, from which a file has tags
_BYTES_SAMPLED = 1 << 14
_NUM_LINES = 20  # by which labels of fastText are recognized
_NUM_SAMPLED = 200  # records by which labels are recognized
_MOST_COLUMNS = 3  # that are named, but for a text with a column for each of its labels
_MIN_CELLS = 4  # of a row that is taken for a series without a column "label"


class DataShape(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a file or folder.

    Args:
        kind: For a folder ``idx`` (MNIST's layout), ``images`` or ``recordings``, which a table of
            Parquet may hold, too; for a file
            ``squad`` (SQuAD's nested JSON), ``records`` (JSONL), ``text`` (named as running text,
            no tab in its first line and no labels of fastText), or ``table``, also if the first
            line cannot be read.
        names: Keys of the first record, or cells of the first row, which may be a header; empty
            if it cannot be read.
        columns: Names of the columns of text, label, source and target, or of context, question
            and answers, by what they hold.
        has_numbers_beside_label: Whether there is a column ``label``, and the first row has only
            numbers in the other columns.
        has_row_of_numbers: Whether the row below the first has four cells or more, numbers and one
            text at most, and no column is named for texts.
        has_time_column: Whether there is a column of times with numbers next to it, and neither
            texts nor labels.
        has_unnamed_label: Whether records have a text, and under a key that is not usual for labels
            a few short values, which may be labels.
    """

    kind: DataKind
    names: tuple[str, ...] = ()
    columns: dict[str, str] = {}
    has_numbers_beside_label: bool = False
    has_row_of_numbers: bool = False
    has_time_column: bool = False
    has_unnamed_label: bool = False


def select_columns(shape: DataShape, columns: Sequence[str]) -> DataShape:
    """Return a shape that has documents and summaries only where the named columns are these.

    One column is running text, whatever is next to it.

    Args:
        shape: Shape of the data.
        columns: Names of two columns, as set; where they are empty, the shape stays as it is.
    """
    if not columns:
        return shape
    roles = {role: name for role, name in shape.columns.items() if role not in SUMMARY_ROLES}
    if pair := find_pair(columns, SUMMARY_ROLES):
        roles |= dict(zip(SUMMARY_ROLES, pair, strict=True))
    is_unclear = shape.has_unnamed_label and len(columns) > 1
    return msgspec.structs.replace(shape, columns=roles, has_unnamed_label=is_unclear)


def name_labels(source: DataSource, columns: Sequence[str], encoding: str = "utf-8") -> bool:
    """Return whether of two named columns the second has a few labels for the texts of the first.

    Or it has lists of labels. Columns that are named for pairs or for documents with summaries do
    not. Of more columns, all but the first have nothing but 0 and 1, one for each label.
    """
    if len(columns) > _MOST_COLUMNS:  # whatever is wrong with them
        return True
    if len(columns) > 2:
        rows = sample_records(source, columns, encoding=encoding, num_rows=_NUM_SAMPLED)
        return bool(rows) and _are_flags(rows)
    if len(columns) != 2 or find_pair(columns) or find_pair(columns, SUMMARY_ROLES):
        return False
    if holds_label_sets(source, columns, encoding):
        return True
    rows = sample_records(source, columns, encoding=encoding, num_rows=_NUM_SAMPLED)
    return find_label(columns, rows) == columns[1]


def _are_flags(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether rows are a text each, no number or date, and 0 or 1 for each of its labels."""
    first = [row[:1] for row in rows]
    has_texts = not hold_only_numbers(first) and not all(is_date(cell) for (cell,) in first)
    cells = (cell.strip().casefold() for row in rows for cell in row[1:])
    return has_texts and all(cell in FLAGS or is_unlabeled(cell) for cell in cells)


def inspect_shape(source: DataSource, encoding: str = "utf-8") -> DataShape:
    """Return the shape of a file in some encoding, or of a folder.

    Raises:
        DataError: It is a folder of an unknown layout, or one image or recording.
    """
    if source.is_folder:
        return DataShape(kind=_kind_of_folder(source))
    _refuse_unread(source)
    if media := _find_media(source):
        return DataShape(kind=media)
    if is_squad(source, encoding):
        return DataShape(kind="squad")
    ahead: list[str] = []
    try:
        ahead.extend(islice(_filled_lines(source, encoding), _NUM_LINES))
    except DataError:  # which is raised again where the rows are read
        if not ahead:
            return DataShape(kind="table")
    first = "".join(ahead[:1])
    if keys := keys_of(first):
        return DataShape(
            kind="records",
            names=keys,
            columns=find_roles(keys, is_table=False),
            has_numbers_beside_label=_has_numbers_beside_key(first),
            has_time_column=is_time_series(source, encoding),
            has_unnamed_label=_has_unnamed_label(source, encoding, keys),
        )
    return _shape_of_cells(source, encoding, has_cells="\t" in first or are_fasttext(ahead))


def _filled_lines(source: DataSource, encoding: str) -> Iterator[str]:
    """Yield the lines that are not blank; of a list of objects in JSON, the objects."""
    lines: Lines = enumerate(read_lines(source, encoding=encoding), start=1)
    lines = record_lines(lines, source.path, source.suffix)
    return filter(str.strip, map(itemgetter(1), lines))


def _has_unnamed_label(source: DataSource, encoding: str, keys: Sequence[str]) -> bool:
    """Return whether the first records have several short values under a key next to a text."""
    if "text" not in keys:
        return False
    lines = list(islice(_filled_lines(source, encoding), _NUM_SAMPLED))
    with suppress(DataError, msgspec.DecodeError, RecursionError):
        fields = json_fields(lines[0])
        if holds_categories(fields) or holds_annotations(fields):
            return True
    try:
        columns = list(zip(*sample_cells(lines, keys), strict=True))
    except DataError:  # reading it says why
        return False
    several = [
        i for i, cells in enumerate(columns) if len(set(cells)) > 1 and not _has_lists(cells)
    ]
    rows = list(zip(*(columns[i] for i in several), strict=True))
    return find_label([keys[i] for i in several], rows) is not None


def _has_lists(cells: Sequence[str]) -> bool:
    """Return whether a column of records has lists or objects."""
    return any(cell[:1] in ("[", "{") for cell in cells)


def _shape_of_cells(source: DataSource, encoding: str, *, has_cells: bool) -> DataShape:
    """Return the shape of a file whose lines have cells, by its first two rows."""
    is_text = FORMATS.get(source.suffix) == "text" and not has_cells
    records = read_cells(open_text(source, encoding), source.suffix)
    header, row = (next(records, (1, []))[1] for _ in range(2))
    names = tuple(map(str.strip, header))
    roles = find_roles(names)
    if {"text", "source", "target", "context"}.isdisjoint(roles):
        _refuse_names_of_files(source.path, names, row)
    is_labeled = "label" in roles and not {"text", "source", "target"} & roles.keys()
    max_texts = len(row) // 2 if is_labeled else 1
    return DataShape(
        kind="text" if is_text else "table",
        names=names,
        columns=roles,
        has_numbers_beside_label=_has_numbers_beside_label(names, row),
        has_row_of_numbers="text" not in roles
        and _are_numbers(row, _MIN_CELLS, max_texts=max_texts),
        has_time_column=is_time_series(source, encoding, is_text=is_text),
    )


def _refuse_names_of_files(path: str, names: Sequence[str], row: Sequence[str]) -> None:
    """Raise `DataError` for a table of names of images or recordings with their labels."""
    cells = [cell.strip() for cell in row]
    index = next((i for i, cell in enumerate(cells) if _names_media(cell)), None)
    if index is None or len(names) != len(cells) or len(cells) < 2:
        return
    label = find_column(names, "label")
    label_index = names.index(label) if label is not None else int(index == 0)
    fields = [
        "file" if i == index else "label" if i == label_index else "_" for i in range(len(row))
    ]
    copy = 'mkdir -p "files/$label" && cp "$file" "files/$label"'
    raise DataError(
        f"{path}: names of images or recordings ({cells[index]}), which are read from folders "
        f"named for their labels.  Copy them there: tail -n +2 {shlex.quote(path)} | while IFS=, "
        f"read -r {' '.join(fields)} _; do {copy}; done"
    )


def _names_media(cell: str) -> bool:
    """Return whether a cell is the name of an image or a recording, by its suffix."""
    return " " not in cell and _format_of(Path(cell)) in ("audio", "image")


def _has_numbers_beside_label(names: Sequence[str], row: Sequence[str]) -> bool:
    """Return whether there is a column of labels, and all other cells of a row are numbers."""
    label = find_column(names, "label")
    features = [cell for name, cell in zip(names, row, strict=False) if name != label]
    return label is not None and _are_numbers(features, 1, max_texts=0)


def _has_numbers_beside_key(line: str) -> bool:
    """Return whether an object has a label, and otherwise only numbers or lists of numbers."""
    try:
        fields = json_fields(line)
    except (DataError, msgspec.DecodeError, RecursionError):
        return False
    label = find_column(list(fields), "label")
    values = [value for name, value in fields.items() if name != label and value is not None]
    numbers = list(chain.from_iterable(v if isinstance(v, list) else [v] for v in values))
    are_numbers = all(isinstance(number, int | float | None) for number in numbers)
    return label is not None and bool(numbers) and are_numbers


def _refuse_unread(source: DataSource) -> None:
    """Raise `DataError` for one image or recording, MNIST's images, or an unknown format."""
    if is_idx(source.path) or FORMATS.get(source.suffix) in ("audio", "image"):
        raise DataError(
            f"{source.path}: one file of images or sound.  "
            f"Name the folder: {_LAYOUTS.format('FOLDER')}"
        )
    if _is_page(source):
        command = f"{_TEXT_OF_PAGES} {shlex.quote(source.path)} > text.txt"
        raise DataError(f"{source.path}: HTML, not rows or running text.  Its text: {command}")
    if _has_tags(source):
        raise DataError(
            f"{source.path}: a word and its tag a line (CoNLL).  Tags of words are for no task "
            "here: labels are those of whole texts."
        )
    if source.suffix in UNREAD and source.suffix not in FORMATS:
        what = UNREAD[source.suffix]
        if source.suffix in MEMORY_ROOTS:  # which is read where it begins as one
            root = MEMORY_ROOTS[source.suffix]
            raise DataError(
                f"{source.path}: named as {what}, but does not begin with <{root}>.  Damaged?  "
                "Copy it again."
            )
        remedy = f"Convert it to {_FORMS}."
        raise DataError(f"{source.path}: {what}, not rows or running text.  {remedy}")


def _is_page(source: DataSource) -> bool:
    """Return whether a file is a page of HTML, also one that is named as text."""
    is_text = FORMATS.get(source.suffix, "text") == "text" and source.table is None
    return is_text and is_html(source.path, source.content)


def _has_tags(source: DataSource) -> bool:
    """Return whether most lines of a file of text end with a tag of a word, such as ``B-ORG``."""
    if FORMATS.get(source.suffix, "text") not in ("text", "tsv") or source.table is not None:
        return False
    start = source.content[:_BYTES_SAMPLED].decode("utf-8", "replace")
    lines = list(filter(str.strip, start.splitlines()))[:_NUM_SAMPLED]
    num_tagged = sum(_TAGGED.fullmatch(line.strip()) is not None for line in lines)
    return len(lines) >= _NUM_LINES and num_tagged > _MOST_TAGGED * len(lines)


def _find_media(source: DataSource) -> DataKind | None:
    """Return what a table without texts holds: images or recordings; None of another one."""
    table = source.table
    if table is None or not table.media:
        return None
    names = tuple(json_fields(source.content.split(b"\n", 1)[0].decode()))
    if not {"text", "source", "context"}.isdisjoint(find_roles(names, is_table=False)):
        return None
    return _KIND_OF_MEDIA[next(iter(table.media.values()))]


def _are_numbers(cells: Sequence[str], min_filled: int, *, max_texts: int) -> bool:
    """Return whether enough cells are filled, with numbers except for dates and a few texts."""
    filled = [cell for cell in cells if cell.strip() and not is_date(cell)]
    num_texts = len(filled) - sum(map(is_like_number, filled))
    return len(filled) >= min_filled and num_texts <= max_texts


def _kind_of_folder(source: DataSource) -> DataKind:
    """Return which files a folder has in folders of its own, most of them."""
    root = Path(source.path)
    if find_idx(root):
        return "idx"
    nested = Counter(_format_of(file) for file in source.files if file.parent != root)
    most = max(_FOLDER_KINDS, key=nested.__getitem__)
    if nested[most]:
        return _FOLDER_KINDS[most]
    raise DataError(f"{root}: {_describe_folder(root, source.files)}")


def _describe_folder(root: Path, files: Sequence[Path]) -> str:
    """Return what a folder without data lacks, and how texts in it become data."""
    has_inputs = not _FOLDER_KINDS.keys().isdisjoint(map(_format_of, files))
    has_texts = not _TEXT_SUFFIXES.isdisjoint(file.suffix.lower() for file in files)
    remedy = f"  {_ONE_FILE_OF_TEXTS}" if has_texts else ""
    if any(file.suffix.lower() in HTML_SUFFIXES for file in files):
        pages = f"{shlex.quote(str(root))}/*.html"
        remedy += f"  The text of pages of HTML: {_TEXT_OF_PAGES} {pages} > text.txt"
    if not has_inputs and not any(map(Path.is_dir, root.iterdir())):
        return f"{describe_folder_as_file()}{remedy}"
    expected = f"Expected {_LAYOUTS.format(root)}  {describe_kinds(files)}".rstrip()
    return f"no WAV files and no images in folders named for their labels.  {expected}{remedy}"


def _format_of(file: Path) -> str | None:
    """Return the format of a file by its suffix; None for an unknown one."""
    return FORMATS.get(file.suffix.lower())
