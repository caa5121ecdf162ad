"""Files of images or recordings: in folders that are named for labels, or in rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from numpy.typing import NDArray

from regard.data.array_blocks import ArrayBlocks
from regard.data.labeled_inputs import LabeledInputs
from regard.data.readers.embedded_file import FileLike
from regard.data.readers.labeled_folders import files_within, labeled_files, read_each
from regard.data.readers.media_tables import (
    count_rows,
    has_media,
    media_columns,
    read_media_rows,
)
from regard.data.readers.source import DataSource
from regard.errors import DataError
from regard.setup.config import DataConfig
from regard.tasks.classification.modalities.base import Parts

MOST_HEADERS = 500
"""Files of a table, or of a folder, whose headers are read before all are."""


def read_labeled_files(
    source: DataSource, suffixes: frozenset[str], read: Callable[[FileLike], tuple[NDArray, int]]
) -> Parts:
    """Read the files of a folder that has one folder per label, in each part if it has parts.

    Args:
        source: The folder.
        suffixes: Suffixes of the files that are read.
        read: Returns the values of a file, and its number of frames, of which they are the first.

    Returns:
        Values and labels by part: ``train``, ``valid``, ``test``; those without files are left out.
    """
    files = labeled_files(source, suffixes)
    values, num_frames = _read_inputs([file.path for file in files], read, len(files))
    parts: Parts = {}
    for part in ("train", "valid", "test"):
        rows = [row for row, file in enumerate(files) if file.part == part]
        if rows:
            root = files[rows[0]].root
            parts[part] = LabeledInputs(
                path=str(root) if root != Path(source.path) else source.path,
                values=[values[row] for row in rows],
                labels=[files[row].label for row in rows],
                locations=[files[row].path.relative_to(root).as_posix() for row in rows],
                num_frames=[num_frames[row] for row in rows],
            )
    return parts


def read_labeled_rows(
    source: DataSource, data: DataConfig, read: Callable[[FileLike], tuple[NDArray, int]]
) -> Parts:
    """Read the images or recordings of a table; rows without a label are left out.

    Args:
        source: The table.
        data: Names of the columns.
        read: Returns the values of a file, and its number of frames, of which they are the first.

    Returns:
        Values and labels as ``train``: a source has one part of a folder of tables.

    Raises:
        DataError: No row has a label, or files cannot be read.
    """
    labels: list[str] = []
    locations: list[str] = []

    def labeled_files_of_rows() -> Iterator[FileLike]:
        for row in read_media_rows(source, media_columns(source, data.columns)):
            labels.append(row.label)
            locations.append(row.location)
            yield row.file

    values, num_frames = _read_inputs(labeled_files_of_rows(), read, count_rows(source))
    if not values:
        raise DataError(f"{source.path}: no row has a label.")
    part = LabeledInputs(
        path=source.path,
        values=values,
        labels=labels,
        locations=locations,
        num_frames=num_frames,
    )
    return {"train": part}


def _read_inputs(
    files: Iterable[FileLike], read: Callable[[FileLike], tuple[NDArray, int]], num_files: int
) -> tuple[list[NDArray], list[int]]:
    """Return values and numbers of frames of files; raise UnreadableRowsError where it fails."""
    blocks = ArrayBlocks()

    def keep(file: FileLike) -> int:
        values, num_frames = read(file)
        blocks.append(values)
        return num_frames

    num_frames = read_each(files, keep, num_files)
    return blocks.arrays(), num_frames


def first_files(source: DataSource, data: DataConfig) -> Iterator[FileLike]:
    """Yield the files of the first rows of a table."""
    rows = read_media_rows(source, media_columns(source, data.columns))
    return (row.file for row in islice(rows, MOST_HEADERS))


def has_files(source: DataSource, suffixes: frozenset[str]) -> bool:
    """Return whether a source is a folder or a table of files, or one file with a suffix."""
    is_file = Path(source.path).suffix.lower() in suffixes
    return source.is_folder or has_media(source) or is_file


def unlabeled_files(
    source: DataSource, data: DataConfig, suffixes: frozenset[str]
) -> Iterator[tuple[str, FileLike]]:
    """Yield the files of a table or a folder, or a single file itself, with their locations."""
    if has_media(source):
        columns = media_columns(source, data.columns, has_labels=False)
        yield from ((row.location, row.file) for row in read_media_rows(source, columns))
        return
    files = files_within(source, suffixes) if source.is_folder else [source.path]
    yield from zip(map(str, files), files, strict=True)
