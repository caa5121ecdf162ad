"""One run a folder: a lock that names its process, and notices when the folder is deleted.

The lock is a file ``.lock`` on which the process holds ``flock`` (POSIX systems; NFS passes it on
to the server). The system releases it when the process ends, however it ends, so a file that a
killed process left behind locks nobody out.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from regard.errors import ConfigError
from regard.hub.file_names import CONFIG
from regard.hub.storage import advise_on_folder

_NAME = ".lock"
_MOST_ATTEMPTS, _SECONDS_BETWEEN = 3, 0.02


class FolderLock:
    """Holds a folder for one run, as a context manager; the folder is created as needed.

    On exit the lock is removed, and with it those folders that it created and nobody filled.

    Args:
        folder: The model folder.

    Raises:
        ConfigError: On entry: another process holds the folder, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / _NAME
        self._created: list[Path] = []
        self._descriptor = -1

    def __enter__(self) -> FolderLock:
        try:
            self._created = [
                path for path in (self.folder, *self.folder.parents) if not path.exists()
            ]
            self.folder.mkdir(parents=True, exist_ok=True)
            while self._descriptor < 0:
                self._try()
        except OSError as error:
            self._remove_created()
            raise ConfigError(
                f"{self.folder}: cannot be written ({error.strerror}).  "
                f"{advise_on_folder(self.folder)}"
            ) from error
        return self

    def _try(self) -> None:
        """Open and lock the file; leave it unlocked where another process has just removed it.

        Raises:
            ConfigError: Another process holds it.
            OSError: The file system takes no lock, or the disk is full; a file that was made for
                it is removed.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock(descriptor)
            if _is_linked(self._path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                self._descriptor = descriptor
        except OSError:
            if os.fstat(descriptor).st_size == 0:  # it names no other process
                self._path.unlink(missing_ok=True)
            raise
        finally:
            if self._descriptor < 0:
                os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        """Lock the open file; raise ConfigError where another process holds it."""
        for _ in range(_MOST_ATTEMPTS):
            if _locks(descriptor, fcntl.LOCK_EX):
                return
            time.sleep(_SECONDS_BETWEEN)  # another process may only be looking
        raise _in_use(self.folder, descriptor, is_resumed=(self.folder / CONFIG).is_file())

    def check(self) -> None:
        """Check that the folder is still there.

        Raises:
            ConfigError: It was deleted, or moved away, during the run.
        """
        if not _is_linked(self._path, self._descriptor):
            raise ConfigError(
                f"{self.folder}: was deleted or moved during the run, which ends here."
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _is_linked(self._path, self._descriptor):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1
        self._remove_created()

    def _remove_created(self) -> None:
        """Remove the folders that were created, from the innermost on, while they are empty."""
        for path in self._created:
            try:
                path.rmdir()
            except OSError:
                return


def require_unlocked(folder: Path) -> None:
    """Check that no other run is going on in a folder; nothing is written.

    Raises:
        ConfigError: One is, with its process and host.
    """  # noqa: DOC501 - _in_use makes it
    try:
        descriptor = os.open(folder / _NAME, os.O_RDONLY)
    except OSError:
        return
    try:
        if not _locks(descriptor, fcntl.LOCK_SH):
            raise _in_use(folder, descriptor)
    finally:
        os.close(descriptor)


def _locks(descriptor: int, kind: int) -> bool:
    """Return whether an open file could be locked, without waiting."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_use(folder: Path, descriptor: int, *, is_resumed: bool = False) -> ConfigError:
    """Return the error of a folder whose lock another process holds."""
    holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
    other = "" if is_resumed else ", or choose another folder with `output`"
    return ConfigError(
        f"{folder}: in use by {holder}, which trains a model there.  Wait until it ends{other}."
    )


def _is_linked(path: Path, descriptor: int) -> bool:
    """Return whether an open file is still the one at its path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
