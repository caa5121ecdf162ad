"""Folders of texts, each in a file of its own, in a folder that is named for its label.

    aclImdb/train/pos/0_9.txt    aclImdb/train/neg/0_3.txt    aclImdb/test/pos/0_10.txt

Folders ``train``, ``val`` and ``test`` at the top are the parts of the data. Each text becomes an
object of JSON. Cost: the texts in memory.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from regard.data.listing import list_first, pluralize
from regard.data.progress import tracked
from regard.data.readers.row_encoder import ROW_ENCODER
from regard.data.readers.table_folders import PART_OF_NAME
from regard.data.readers.table_origin import TableOrigin
from regard.errors import DataError

_SUFFIX = ".txt"
_FORM = "text file"
_UNLABELED = ("unsup", "unlabeled", "unlabelled")  # folders of texts without a label
_NUM_NAMED = 5  # files in a message


class TextFolder(NamedTuple):
    """The texts of a folder with one folder a label.

    Args:
        files: The files of each part of the data, with their labels, in alphabetical order.
        unread: Names of other files of text: those that are not in the folder of a label.
    """

    files: dict[str, list[tuple[Path, str]]]
    unread: tuple[str, ...]

    @property
    def is_labeled(self) -> bool:
        """Whether there are two labels or more."""
        return len({label for files in self.files.values() for _, label in files}) > 1


def find_labeled_texts(root: Path, files: Iterable[Path]) -> TextFolder:
    """Return the files of texts that are in folders named for labels.

    Args:
        root: The folder of the data.
        files: Its files, at any depth.
    """
    texts = sorted(file for file in files if file.suffix.lower() == _SUFFIX)
    folders = {file.relative_to(root).parts[0] for file in texts if file.parent != root}
    has_parts = bool(folders) and all(name.casefold() in PART_OF_NAME for name in folders)
    labeled: dict[str, list[tuple[Path, str]]] = {}
    unread = []
    for file in texts:
        above = list(file.relative_to(root).parts[:-1])
        part = PART_OF_NAME[above.pop(0).casefold()] if has_parts and above else ""
        if len(above) == 1 and above[0].casefold() not in _UNLABELED:
            labeled.setdefault(part, []).append((file, above[0]))
        else:
            unread.append(file.relative_to(root).as_posix())
    return TextFolder(labeled, tuple(unread))


def read_labeled_files(
    name: str, texts: TextFolder, part: str, read: Callable[[str], bytes]
) -> tuple[bytes, TableOrigin]:
    """Return the texts of a part of a folder as objects of JSON, a line each.

    Args:
        name: The folder as named.
        texts: Its files.
        part: The part that is asked for; without parts the folder has all rows.
        read: Returns the bytes of a file.

    Returns:
        The lines, and where they come from.

    Raises:
        DataError: There is no such part, or a text is not UTF-8.
    """
    own_part = part if part in texts.files else next(iter(texts.files))
    if own_part != part and len(texts.files) > 1:
        seen = ", ".join(texts.files)
        raise DataError(f"{name}: has no part named {part}.  Parts seen: {seen}.")
    files, digest, lines = texts.files[own_part], hashlib.sha256(), []
    for path, label in tracked(files, f"reading {name}", len(files), "texts"):
        content = read(str(path))
        digest.update(os.fsencode(path.relative_to(name).as_posix()) + b"\0")
        digest.update(hashlib.sha256(content).digest())
        row = {"text": _decode(str(path), content), "label": label}
        lines.append(ROW_ENCODER.encode(row) + b"\n")
    of_part = f" of {own_part}" * (len(texts.files) > 1)
    notes = [f"{pluralize(len(files), _FORM)}{of_part}, the label of each its folder"]
    if texts.unread:
        notes.append(f"not read: {list_first(texts.unread, _NUM_NAMED)}")
    table = TableOrigin(
        form=_FORM,
        sha256=digest.hexdigest(),
        notes=tuple(notes),
        files=tuple(str(path) for path, _ in files),
        first_lines=tuple(range(1, 1 + len(files))),
        held_out=tuple(other for other in texts.files if other != own_part),
    )
    return b"".join(lines), table


def _decode(path: str, content: bytes) -> str:
    """Return the text of a file; raise `DataError` where it is not UTF-8."""
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        name = shlex.quote(path)
        raise DataError(
            f"{path}: not UTF-8 at byte {1 + error.start:,} (0x{content[error.start]:02X}).  "
            f"Convert each such file: iconv -f latin1 -t utf8 {name} > text && mv text {name}"
        ) from error


__all__ = ["TextFolder", "find_labeled_texts", "read_labeled_files"]
