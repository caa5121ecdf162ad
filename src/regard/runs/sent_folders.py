"""Folders of data that rank 0 alone has: their files are sent once to each of the other machines.

A machine keeps them among its temporary files, under a name that follows from their content, so
that another start of the run finds them there. What is found is used if its hash is right. Cost:
about 64 MB of the files are in the memory of each process at once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from regard.data.readers.source import DataSource, open_file
from regard.errors import ConfigError, DataError, ResourceError
from regard.training.distribution import World

_SENT_BYTES = 64_000_000  # at once


def share_folder(world: World, source: DataSource | None, path: str) -> DataSource:
    """Return a folder of rank 0 on every rank, sent to the machines that do not have it.

    Args:
        world: The processes, which all call this.
        source: The folder on rank 0; None on the others.
        path: The folder as named.

    Raises:
        ConfigError: It has a link to a folder elsewhere, which is not sent.
        DataError: A file cannot be read, or has changed meanwhile.
        ResourceError: A machine cannot keep the files.
    """
    sha256 = world.on_first(lambda: DataSource(path, None).sha256)
    received = Path(tempfile.gettempdir()) / f"regard-{os.getuid()}-{sha256[:24]}"
    if source is None:
        source = _find(Path(path), sha256) or _find(received, sha256)
    present = world.gather(source is not None)
    if not all(present):
        files = _sent_files(world, path)
        if world.rank in _receivers(world, present):
            world.together(lambda: _keep(files, received))
        else:
            world.together(lambda: deque(files, maxlen=0))
    return world.together(lambda: source or _found(received, sha256))


def _receivers(world: World, present: Sequence[bool]) -> set[int]:
    """Return the first rank of each machine of those that do not have the folder."""
    hosts = world.hosts or ("",) * world.size
    lacking = [rank for rank, has_folder in enumerate(present) if not has_folder]
    return set({hosts[rank]: rank for rank in reversed(lacking)}.values())


def _find(folder: Path, sha256: str) -> DataSource | None:
    """Return a folder if it is there and has the content of a hash."""
    source = DataSource(str(folder), None)
    return source if folder.is_dir() and source.sha256 == sha256 else None


def _found(folder: Path, sha256: str) -> DataSource:
    """Return the folder that was sent."""
    source = _find(folder, sha256)
    if source is None:
        raise DataError(f"{folder}: not what rank 0 has: it changed meanwhile.  Start again.")
    return source


def _sent_files(world: World, path: str) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the data files of a folder of rank 0, on every rank."""
    for names in _batches(world.on_first(lambda: _list_files(DataSource(path, None)))):
        yield from world.on_first(partial(_read, path, names)).items()


def _list_files(source: DataSource) -> dict[str, int]:
    """Return the sizes of the data files of a folder, by their names in it."""
    root = Path(source.path)
    within = set(root.rglob("*"))
    linked = next((file for file in source.files if file not in within), None)
    if linked is not None:
        raise ConfigError(f"{linked}: in a linked folder, which is not sent.  Copy {root} there.")
    return {file.relative_to(root).as_posix(): file.stat().st_size for file in source.data_files}


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield the names of files that are sent at once."""
    batch: list[str] = []
    total = 0
    for name, size in sizes.items():
        if batch and total + size > _SENT_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(name)
        total += size
    if batch:
        yield batch


def _read(folder: str, names: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of files of a folder, by their names in it."""
    contents = {}
    for name in names:
        with open_file(str(Path(folder) / name)) as stream:
            contents[name] = stream.read()
    return contents


def _keep(files: Iterator[tuple[str, bytes]], folder: Path) -> None:
    """Write files to a folder, which appears once all of them are there.

    Raises:
        ResourceError: They cannot be written. It is raised after the last of them has come, since
            the other processes receive all of them.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            complete = Path(temporary) / "data"
            complete.mkdir(mode=0o700)
            for name, content in files:
                path = complete / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            shutil.rmtree(folder, ignore_errors=True)  # of another content
            with suppress(OSError):  # another process was first: the hash decides
                complete.replace(folder)
    except OSError as error:
        deque(files, maxlen=0)
        raise ResourceError(
            f"{folder}: the data of rank 0 cannot be kept there ({error.strerror}).  Make room, "
            "or name another folder for temporary files by TMPDIR."
        ) from error
