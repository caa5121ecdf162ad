"""Files that are packed by gzip, bzip2, xz or Zstandard, or are the only one of a ZIP archive."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shlex
import zlib
from importlib import import_module
from io import BytesIO
from types import ModuleType
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from regard.data.listing import list_first
from regard.errors import DataError

_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ"
_ZSTANDARD, _ZIP = b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_DOCUMENTS = ("xl/", "word/", "ppt/", "content.xml", "META-INF/")
"""Beginnings of names in ZIP archives that are documents, which are refused as such."""
_NUM_NAMED = 5  # files of an archive in a message


class Packing(NamedTuple):
    """How a file is packed.

    Args:
        stream: What is read from it, unpacked.
        faults: Raised for a damaged one.
        command: What prints it, unpacked, in a shell.
        inner_name: Name of the only file of an archive; empty where there is none.
    """

    stream: Any
    faults: tuple[type[Exception], ...]
    command: str
    inner_name: str = ""


def find_packing(name: str, content: bytes) -> Packing | None:
    """Return how the content of a file is packed, by its first bytes; None for other content.

    Args:
        name: The file, for messages.
        content: Its bytes.

    Raises:
        DataError: It is an archive of several files, or what reads it is not installed.
    """
    data = BytesIO(content)
    if content.startswith(_GZIP):
        faults = (OSError, EOFError, zlib.error)
        return Packing(gzip.GzipFile(fileobj=data), faults, "gzip -dc")
    if content.startswith(_BZIP2):
        return Packing(bz2.BZ2File(data), (OSError, EOFError), "bzip2 -dc")
    if content.startswith(_XZ):
        return Packing(lzma.LZMAFile(data), (OSError, EOFError, lzma.LZMAError), "xz -dc")
    if content.startswith(_ZSTANDARD):
        zstandard: Any = _import_zstandard(name)
        stream = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
        return Packing(stream, (zstandard.ZstdError,), "zstd -dc")
    return _find_only_file(name, content) if content.startswith(_ZIP) else None


def _find_only_file(name: str, content: bytes) -> Packing | None:
    """Return the only file of a ZIP archive; None for a document, which is one, too, or damaged.

    Raises:
        DataError: It has several files, or none, or needs a password, or is damaged by its name.
    """
    try:
        archive = ZipFile(BytesIO(content))
    except BadZipFile as error:
        if name.lower().endswith(".zip"):
            raise DataError(f"{name}: cannot be unpacked ({error}).  Copy it again.") from error
        return None
    try:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        if any(one.startswith(_DOCUMENTS) for one in names):
            return None
        names = [one for one in names if not _is_left_by_system(one)]
        if len(names) == 1:
            faults = (BadZipFile, EOFError, zlib.error, OSError)
            return Packing(archive.open(names[0]), faults, "unzip -p", names[0])
    except (NotImplementedError, RuntimeError) as error:
        raise DataError(f"{name}: a ZIP archive that cannot be read ({error}).") from error
    if not names:
        raise DataError(f"{name}: a ZIP archive without files.")
    raise DataError(
        f"{name}: a ZIP archive of {len(names):,} files: {list_first(names, _NUM_NAMED)}.  Unpack "
        f"it, and name one, or their folder: unzip {shlex.quote(name)} -d files"
    )


def _is_left_by_system(name: str) -> bool:
    """Return whether a file of an archive is one that a system added."""
    return name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1].startswith(".")


def _import_zstandard(name: str) -> ModuleType:
    """Return the module that unpacks Zstandard; raise `DataError` where it is not installed."""
    try:
        return import_module("zstandard")
    except ImportError as error:
        raise DataError(
            f"{name}: packed by Zstandard.  Unpack it: zstd -d {shlex.quote(name)}, or install "
            "what reads it: pip install zstandard"
        ) from error
