"""Files of pictures and pages: their formats, whether they can be written, and writing them."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Literal

from regard.errors import ConfigError, ResourceError

PictureFormat = Literal["svg", "png", "pdf"]
FORMATS: tuple[PictureFormat, ...] = ("svg", "png", "pdf")
"""Formats of a picture; each is also the suffix of its files."""


def picture_format(path: str | Path) -> PictureFormat:
    """Return the format of a picture by the suffix of its file.

    Args:
        path: The file.

    Raises:
        ConfigError: It has another suffix.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        allowed = ", ".join(f".{ending}" for ending in FORMATS)
        raise ConfigError(f"{path}: a picture ends in one of {allowed}.")
    return suffix


def require_writable(path: str | Path) -> None:
    """Check that a picture can be written to a file, before the work for it begins.

    Args:
        path: The file.

    Raises:
        ConfigError: Its suffix is not that of a picture, or its folder is missing or read-only.
    """
    picture_format(path)
    require_writable_file(path)


def require_writable_file(path: str | Path) -> None:
    """Check that a file can be written, before the work for it begins.

    Args:
        path: The file.

    Raises:
        ConfigError: It is a folder, or its folder is missing or read-only.
    """
    file = Path(os.path.realpath(path))
    reason = None
    if file.is_dir():
        raise ConfigError(f"{path}: a folder, not a file.  Name a file.")
    if not file.parent.is_dir():
        reason = errno.ENOTDIR if file.parent.exists() else errno.ENOENT
    elif not os.access(file.parent, os.W_OK | os.X_OK):
        reason = errno.EACCES
    if reason is not None:
        raise ConfigError(f"{path}: cannot be written ({os.strerror(reason)}).")


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file completely or not at all; a pipe or a device is written directly.

    Args:
        path: The file.
        content: All of it.

    Raises:
        ConfigError: The file cannot be written.
        ResourceError: The disk is full, or fails.
    """
    file = Path(os.path.realpath(path))
    temporary = file.with_name(f".{file.name[:200]}.{os.getpid()}.tmp")
    try:
        if _is_device(file):
            file.write_bytes(content)
            return
        temporary.write_bytes(content)
        if file.exists():
            temporary.chmod(stat.S_IMODE(file.stat().st_mode))
        temporary.replace(file)
    except OSError as error:
        is_disk = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        kind = ResourceError if is_disk else ConfigError
        raise kind(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_device(file: Path) -> bool:
    """Return whether a file is a pipe or a device."""
    return file.exists() and not (file.is_file() or file.is_dir())
