"""The manifest of a model folder: hashes of its files, so that a changed file is noticed.

``manifest.json`` has an entry for every file that the folder is opened or resumed from. The entry
is written before the file is, with the hashes of the new content and of the old, so that a writer
that is killed at any point leaves a folder that agrees with its manifest. The entry of a file that
grows by lines covers its beginning. Files for people, such as the model card and the curves, have
none.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import msgspec

from regard.errors import NextStep, WeightsError
from regard.hub.file_names import (
    ADDED_TOKENS,
    CALIBRATION,
    CONFIG,
    MANIFEST,
    MARIAN_SOURCE,
    MARIAN_TARGET,
    MERGES,
    METRICS,
    SENTENCEPIECE_FAIRSEQ,
    SENTENCEPIECE_LLAMA,
    SENTENCEPIECE_T5,
    SOURCE_FOLDER,
    SPECIAL_TOKENS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCABULARY,
    WEIGHTS,
    WORD_PIECES,
)
from regard.hub.storage import stored_checksum, write_atomic

_OPENED = (
    *(CONFIG, WEIGHTS, METRICS, CALIBRATION),
    *(TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS, WORD_PIECES, VOCABULARY, MERGES),
    *(MARIAN_SOURCE, MARIAN_TARGET),
    *(SENTENCEPIECE_T5, SENTENCEPIECE_LLAMA, SENTENCEPIECE_FAIRSEQ),
)
"""Files that a folder, or the one of its sources, is opened or resumed from."""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the content of a file must be.

    Args:
        sha256: Hashes of the content, newest first; for weights the checksum that their file holds.
        num_bytes: Length of the beginning that the hash is of; None is the whole file.
    """

    sha256: tuple[str, ...]
    num_bytes: int | None = None


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: dict[str, FileEntry] = {}
    sources: dict[str, str] = {}
    locations: dict[str, str] = {}
    rows: str = ""
    format: int = 1


class Manifest:
    """The manifest of one folder.

    Args:
        folder: The model folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / MANIFEST

    @property
    def exists(self) -> bool:
        """Whether the folder has a manifest."""
        return self.path.is_file()

    def record(self, name: str, content: bytes) -> None:
        """Enter a file that is about to be written.

        Args:
            name: Its path within the folder.
            content: What will be written.
        """
        self.record_checksum(name, _hash(content))

    def record_checksum(self, name: str, checksum: str) -> None:
        """Enter a file that is about to be written, by a checksum of its content.

        What is there stays entered: it need not be the newest entry, whose writer may have been
        killed before.
        """
        entry, path = self._read().files.get(name), self.folder / name
        before: tuple[str, ...] = ()
        if entry is not None and path.is_file():
            with suppress(WeightsError):  # one that is damaged is replaced
                before = tuple(old for old in _entry_of(path).sha256 if old in entry.sha256)
        self._enter(name, FileEntry((checksum, *before)))

    def record_lines(self, name: str, content: bytes) -> None:
        """Enter the content of a file that grows by lines, after it has grown or before a cut."""
        self._enter(name, FileEntry((_hash(content),), len(content)))

    def record_sources(
        self, hashes: dict[str, str], locations: dict[str, str], rows: str = ""
    ) -> None:
        """Enter the data of the run, by the name of the setting, such as ``valid``.

        Args:
            hashes: SHA-256 of each file or folder.
            locations: Path of each, relative to the model folder.
            rows: Hash of the rows that were read from them.
        """
        document = msgspec.structs.replace(
            self._read(), sources=hashes, locations=locations, rows=rows
        )
        self._write(document)

    def sources(self) -> dict[str, str]:
        """Return the data of the run: SHA-256 by the name of the setting."""
        return self._read().sources

    def rows(self) -> str:
        """Return the hash of the rows that the run read; empty for one of an earlier version."""
        return self._read().rows

    def locations(self) -> dict[str, str]:
        """Return where the data of the run was, relative to the model folder, by setting."""
        return self._read().locations

    def check(self) -> None:
        """Check the content of all files but the weights; a missing file is left to its reader.

        Raises:
            WeightsError: A file has been changed or damaged, or the manifest has.
        """
        for name, entry in self._read().files.items():
            path = self.folder / name
            if name != WEIGHTS and path.is_file():
                self._compare(path, _hash(path.read_bytes()[: entry.num_bytes]), entry)

    def check_weights(self) -> None:
        """Check that the weights are those of this run.

        Raises:
            WeightsError: They are another file's, or the manifest is damaged.
        """
        entry = self._read().files.get(WEIGHTS)
        if entry is not None:
            path = self.folder / WEIGHTS
            self._compare(path, stored_checksum(path) or "", entry)

    def check_presence(self, name: str, *, is_complete: bool) -> None:
        """Check that a file that not every folder has is there as it was written.

        Args:
            name: Its path within the folder.
            is_complete: Whether the run has finished; before, a kill may have lost the file.

        Raises:
            WeightsError: It was removed, or is from elsewhere.
        """
        is_there, is_entered = (self.folder / name).is_file(), name in self._read().files
        if not self.exists or is_there == is_entered or not (is_there or is_complete):
            return
        problem = f"not written by this run: {MANIFEST} does not have it" if is_there else "missing"
        raise WeightsError(
            f"{self.folder / name}: {problem}.  Restore the folder from a copy.",
            self._accept_step(),
        )

    def accept(self) -> list[str]:
        """Enter the files that the folder is opened from as they are, after an intended change.

        Returns:
            Paths, within the folder, of the files that had another entry or none.
        """
        try:
            document = self._read()
        except WeightsError:
            document = _Document()
        after = {name: _entry_of(path) for name, path in self._files(document).items()}
        self._write(msgspec.structs.replace(document, files=after))
        before = {name: entry.sha256 for name, entry in document.files.items()}
        return sorted(name for name in after if after[name].sha256[0] not in before.get(name, ()))

    def _files(self, document: _Document) -> dict[str, Path]:
        """Return the files that are or should be entered, by their paths within the folder."""
        names = {*document.files, *_OPENED, *(f"{SOURCE_FOLDER}/{name}" for name in _OPENED)}
        paths = {name: self.folder / name for name in sorted(names)}
        return {name: path for name, path in paths.items() if path.is_file()}

    def _read(self) -> _Document:
        if not self.exists:
            return _Document()
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Document)
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(f"{self.path}: damaged ({error}).", self._accept_step()) from error

    def _enter(self, name: str, entry: FileEntry) -> None:
        document = self._read()
        self._write(msgspec.structs.replace(document, files=document.files | {name: entry}))

    def _write(self, document: _Document) -> None:
        content = msgspec.json.encode(document, order="sorted")
        write_atomic(self.path, msgspec.json.format(content) + b"\n")

    def _compare(self, path: Path, checksum: str, entry: FileEntry) -> None:
        if checksum not in entry.sha256:
            raise WeightsError(
                f"{path}: changed or damaged since it was written (sha256 {checksum[:8]}, "
                f"{MANIFEST} has {entry.sha256[0][:8]}).  Restore it from a copy.",
                self._accept_step(),
            )

    def _accept_step(self) -> NextStep:
        purpose = "If the change was intended, accept it"
        return NextStep(purpose, "info", (str(self.folder),), (("accept", "true"),))


def _entry_of(path: Path) -> FileEntry:
    """Return the entry of a file with its present content."""
    if path.name == WEIGHTS:
        return FileEntry((stored_checksum(path) or "",))
    content = path.read_bytes()
    return FileEntry((_hash(content),), len(content) if path.name == METRICS else None)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
