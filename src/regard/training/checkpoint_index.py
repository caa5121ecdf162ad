"""The file that names the last checkpoint of a model of which every process holds a part.

``checkpoints/last.json`` has the name of a folder of safetensors files, a checksum of each, and the
state of the run. What is in the folder is written and read by `regard.training.sharded_checkpoint`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from regard.data.readers.source import file_hash
from regard.errors import WeightsError
from regard.hub.storage import write_atomic
from regard.training.distribution import World

INDEX = "last.json"
_FOLDER = re.compile(r"step-\d{8,}(-\d+)?")
_RESTORE = "Restore it from a copy, or train again with another `output`."


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``last.json``.

    Args:
        folder: Name of the folder of the tensors, next to it.
        sha256: Checksums of its files by name.
        state: Values that JSON holds.
        checksum: Of the other fields.
    """

    folder: str
    sha256: dict[str, str]
    state: dict[str, object]
    checksum: str


def write_index(
    checkpoints: Path, folder: str, sha256: Mapping[str, str], state: Mapping[str, object]
) -> None:
    """Write the file that names a checkpoint, which counts from then on.

    Args:
        checkpoints: The folder of the checkpoints.
        folder: Name of the folder of the tensors.
        sha256: Checksums of its files by name.
        state: Values that JSON holds without loss.
    """
    content = {"folder": folder, "sha256": dict(sha256), "state": dict(state)}
    text = json.dumps(content | {"checksum": _checksum_of(content)})
    write_atomic(checkpoints / INDEX, text)


def read_index(checkpoints: Path) -> Index:
    """Read the file that names the last checkpoint.

    Returns:
        Its folder, checksums and state.

    Raises:
        WeightsError: It is damaged.
    """
    path = checkpoints / INDEX
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: damaged ({error}).  {_RESTORE}") from error
    content = {"folder": index.folder, "sha256": index.sha256, "state": index.state}
    if _checksum_of(content) != index.checksum or not _FOLDER.fullmatch(index.folder):
        raise WeightsError(f"{path}: damaged: the checksum does not agree.  {_RESTORE}")
    return index


def require_sound(checkpoints: Path, index: Index, world: World) -> None:
    """Check the files of a checkpoint against their checksums, each on one of the processes.

    Raises:
        WeightsError: One is missing or damaged, or there is another one, which may be a pickle.
    """
    folder = checkpoints / index.folder

    def check() -> None:
        if not folder.is_dir():
            raise WeightsError(f"{folder}: missing.  {_RESTORE}")
        surplus = sorted({path.name for path in folder.iterdir()} - set(index.sha256))
        if surplus:
            raise WeightsError(
                f"{folder / surplus[0]}: not a file of this checkpoint, which has safetensors "
                "alone.  It is not read (a pickle can run any code).  Move it elsewhere."
            )
        for name in sorted(index.sha256)[world.rank :: world.size]:
            path = folder / name
            if not path.is_file():
                raise WeightsError(f"{path}: missing.  {_RESTORE}")
            if file_hash(path) != index.sha256[name]:
                raise WeightsError(f"{path}: damaged: the checksum does not agree.  {_RESTORE}")

    world.together(check)


def remove_others(checkpoints: Path, current: str | None) -> None:
    """Remove the folders of checkpoints but the current one, and the file of a whole model's.

    Args:
        checkpoints: The folder of the checkpoints.
        current: Name of the folder of the current one; None where it is a file.
    """
    if current is None:
        (checkpoints / INDEX).unlink(missing_ok=True)
    for folder in checkpoints.glob("step-*"):
        if _FOLDER.fullmatch(folder.name) and folder.name != current:
            shutil.rmtree(folder, ignore_errors=True)


def _checksum_of(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
