"""What a file or folder looks like, from which it is told what it is for.

The kind of file, the names of columns or keys in its first record, and whether numbers stand in
the first row below. Nothing here knows of tasks. Cost: the first lines of a file, the names in a
folder.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Literal

import msgspec

from regard.data.readers import FORMATS
from regard.data.readers.columns import find_roles
from regard.data.readers.idx import find_idx, is_idx
from regard.data.readers.series import is_number
from regard.data.readers.source import DataSource, describe_folder_as_file
from regard.data.readers.tables import read_cells
from regard.data.readers.text_lines import open_text, read_lines
from regard.errors import DataError

DataKind = Literal["idx", "images", "recordings", "records", "table", "text"]

_LAYOUTS = "{}/LABEL/FILE.wav or FILE.png, or MNIST's train-images-idx3-ubyte.gz."
_KEY = re.compile(r'"(\w+)"\s*:')
_FEWEST_CELLS = 4  # of a row that is taken for a series though no column is called "label"


class DataShape(msgspec.Struct, frozen=True, kw_only=True):
    """What a file or folder looks like.

    Args:
        kind: Of a folder ``idx`` (MNIST's layout), ``images`` or ``recordings``; of a file
            ``records`` (JSONL), ``text`` (named as running text, no tab in its first line), or
            ``table``, also where the first line cannot be read.
        names: Keys of the first record, or cells of the first row, which may be a header; empty
            where there is none that can be read.
        columns: Which of the names stands for text, label, source and target, as
            `regard.data.readers.columns.find_roles` finds them.
        has_numbers_beside_label: Whether the first row below a header with a column ``label`` has
            nothing but numbers beside it.
        has_row_of_numbers: Whether the row below the first has four cells or more, numbers and one
            text at most.
    """

    kind: DataKind
    names: tuple[str, ...] = ()
    columns: dict[str, str] = {}
    has_numbers_beside_label: bool = False
    has_row_of_numbers: bool = False


def inspect_shape(source: DataSource, encoding: str = "utf-8") -> DataShape:
    """Find out what a file or folder looks like.

    Args:
        source: The data.
        encoding: Of a file.

    Raises:
        DataError: It is a folder of none of the known layouts, or one image or recording.
        ConfigError: The encoding is unknown.
    """
    if source.is_folder:
        return DataShape(kind=_kind_of_folder(source))
    if is_idx(source.path) or FORMATS.get(source.suffix) in ("audio", "image"):
        raise DataError(
            f"{source.path}: one file of images or sound.  "
            f"Name the folder: {_LAYOUTS.format('FOLDER')}"
        )
    try:
        first = next((line for line in read_lines(source, encoding=encoding) if line.strip()), "")
    except DataError:
        return DataShape(kind="table")
    keys = tuple(_KEY.findall(first)) if first.lstrip().startswith("{") else ()
    if keys:
        return DataShape(kind="records", names=keys, columns=find_roles(keys))
    is_text = FORMATS.get(source.suffix) == "text" and "\t" not in first
    records = read_cells(open_text(source, encoding), source.suffix)
    header, row = (next(records, (1, []))[1] for _ in range(2))
    return DataShape(
        kind="text" if is_text else "table",
        names=tuple(name.strip() for name in header),
        columns=find_roles(header),
        has_numbers_beside_label=_has_numbers_beside_label(header, row),
        has_row_of_numbers=_is_row_of_numbers(row),
    )


def _kind_of_folder(source: DataSource) -> DataKind:
    """Find out what is in the folders of a folder."""
    root = Path(source.path)
    if find_idx(root):
        return "idx"
    is_flat = [file.parent == root for file in source.files]
    formats = [FORMATS.get(file.suffix.lower()) for file in source.files]
    within = Counter(name for name, flat in zip(formats, is_flat, strict=True) if not flat)
    if within["image"] or within["audio"]:
        return "recordings" if within["audio"] >= within["image"] else "images"
    has_inputs = {"image", "audio"} & set(formats)
    if not has_inputs and not any(entry.is_dir() for entry in root.iterdir()):
        raise DataError(f"{root}: {describe_folder_as_file()}")
    raise DataError(
        f"{root}: no WAV files and no images in folders named for their labels.  "
        f"Expected {_LAYOUTS.format(root)}"
    )


def _has_numbers_beside_label(header: list[str], row: list[str]) -> bool:
    names = [name.strip() for name in header]
    others = [
        cell for name, cell in zip(names, row, strict=False) if name != "label" and cell.strip()
    ]
    return "label" in names and bool(others) and all(map(is_number, others))


def _is_row_of_numbers(row: list[str]) -> bool:
    filled = [cell for cell in row if cell.strip()]
    return len(filled) >= _FEWEST_CELLS and sum(map(is_number, filled)) >= len(filled) - 1
