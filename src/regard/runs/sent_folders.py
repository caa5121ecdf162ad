"""Folders, and tables of images, that rank 0 alone has: sent once to each of the other machines.

A machine keeps them among its temporary files, under a name that follows from their content, so
that another start of the run finds them there. What is found is used if its hash is right. Cost:
about 64 MB of the files are in the memory of each process at once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from regard.data.readers.source import DataSource, file_hash, open_file
from regard.data.readers.table_origin import TableOrigin, hash_of_files
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
    received = _received_folder(sha256)
    if source is None:
        source = _find(Path(path), sha256) or _find(received, sha256)
    _send_missing(
        world, path, lambda: _list_files(DataSource(path, None)), received, is_here=bool(source)
    )
    return world.together(lambda: source or _found(received, sha256))


def share_table(world: World, source: DataSource) -> DataSource:
    """Return a table of images or recordings with files that each rank has.

    Args:
        world: The processes, which all call this.
        source: The table with rank 0's names of its files, of which some machines have none.

    Raises:
        DataError: A file cannot be read, or has changed meanwhile.
        ResourceError: A machine cannot keep the files.
    """
    table = source.table
    assert table is not None
    root = Path(source.path) if table.files else Path(source.path).parent
    names = [Path(file).relative_to(root).as_posix() for file in table.files or (source.path,)]
    received = _received_folder(table.sha256)
    is_here = world.is_first or _has_tables(root, names, table)

    def sizes() -> dict[str, int]:
        return {name: (root / name).stat().st_size for name in names}

    is_kept = is_here or _has_tables(received, names, table)
    _send_missing(world, str(root), sizes, received, is_here=is_kept)

    def local_table() -> DataSource:
        if is_here:
            return source
        if not _has_tables(received, names, table):
            raise _changed(received)
        files = tuple(str(received / name) for name in names)
        if not table.files:
            return DataSource(files[0], source.content, table=table)
        return DataSource(str(received), source.content, table=replace(table, files=files))

    return world.together(local_table)


def _received_folder(sha256: str) -> Path:
    """Return the folder where a machine keeps files that were sent, by the hash of all."""
    return Path(tempfile.gettempdir()) / f"regard-{os.getuid()}-{sha256[:24]}"


def _has_tables(root: Path, names: Sequence[str], table: TableOrigin) -> bool:
    """Return whether a folder has the files of a table with their content."""
    files = [root / name for name in names]
    if not all(map(Path.is_file, files)):
        return False
    hashes = list(map(file_hash, files))
    content = hash_of_files(dict(zip(names, hashes, strict=True))) if table.files else hashes[0]
    return content == table.sha256


def _send_missing(
    world: World, root: str, sizes: Callable[[], dict[str, int]], received: Path, *, is_here: bool
) -> None:
    """Send files of rank 0 to the machines of those that lack them.

    Args:
        world: The processes.
        root: The folder of the files on rank 0.
        sizes: Returns sizes of the files by their names in that folder, on rank 0.
        received: The folder to which they are written.
        is_here: Whether this rank has them.
    """
    present = world.gather(is_here)
    if not all(present):
        files = _sent_files(world, root, sizes)
        if world.rank in _receivers(world, present):
            world.together(lambda: _keep(files, received))
        else:
            world.together(lambda: deque(files, maxlen=0))


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
        raise _changed(folder)
    return source


def _changed(folder: Path) -> DataError:
    """Return the error of files that are not what rank 0 has."""
    return DataError(f"{folder}: not what rank 0 has: it changed meanwhile.  Start again.")


def _sent_files(
    world: World, root: str, sizes: Callable[[], dict[str, int]]
) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of files of rank 0, on every rank; of large files, their pieces."""
    for pieces in _batches(world.on_first(sizes)):
        contents = world.on_first(partial(_read, root, pieces))
        yield from zip([piece.name for piece in pieces], contents, strict=True)


def _list_files(source: DataSource) -> dict[str, int]:
    """Return the sizes of the data files of a folder, by their names in it."""
    root = Path(source.path)
    within = set(root.rglob("*"))
    linked = next((file for file in source.files if file not in within), None)
    if linked is not None:
        raise ConfigError(f"{linked}: in a linked folder, which is not sent.  Copy {root} there.")
    return {file.relative_to(root).as_posix(): file.stat().st_size for file in source.data_files}


class _Piece(NamedTuple):
    """A part of a file, by the name of that, its first byte and the number of its bytes."""

    name: str
    start: int
    size: int


def _batches(sizes: Mapping[str, int]) -> Iterator[list[_Piece]]:
    """Yield the pieces of files that are sent at once."""
    batch: list[_Piece] = []
    total = 0
    for name, size in sizes.items():
        for start in range(0, max(size, 1), _SENT_BYTES):
            piece = _Piece(name, start, min(size - start, _SENT_BYTES))
            if batch and total + piece.size > _SENT_BYTES:
                yield batch
                batch, total = [], 0
            batch.append(piece)
            total += piece.size
    if batch:
        yield batch


def _read(folder: str, pieces: Sequence[_Piece]) -> list[bytes]:
    """Return the contents of pieces of files in a folder."""
    contents = []
    for piece in pieces:
        with open_file(str(Path(folder) / piece.name)) as stream:
            stream.seek(piece.start)
            contents.append(stream.read(piece.size))
    return contents


def _keep(files: Iterator[tuple[str, bytes]], folder: Path) -> None:
    """Write files, or pieces of them in order, to a folder, which appears once all are there.

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
                with path.open("ab") as stream:
                    stream.write(content)
            shutil.rmtree(folder, ignore_errors=True)  # of another content
            with suppress(OSError):  # another process was first: the hash decides
                complete.replace(folder)
    except OSError as error:
        deque(files, maxlen=0)
        raise ResourceError(
            f"{folder}: the data of rank 0 cannot be kept there ({error.strerror}).  Make room, "
            "or name another folder for temporary files by TMPDIR."
        ) from error
