"""Checkpoints of a model of which every process holds a part (FSDP2), by PyTorch's own writer.

``checkpoints/last.json`` names a folder of safetensors files, one a process, which
`torch.distributed.checkpoint` writes and reads again on any number of processes; it also has a
checksum of each file, and the state as JSON. Every checkpoint gets a folder of its own. It counts
once ``last.json`` names it; then the one before is removed. So a killed writer leaves the previous
checkpoint as it was. No process holds more than its part, and a serialized copy of it.

No file is pickled, and none is read that ``last.json`` does not name. (PyTorch's `FileSystemWriter`
would pickle its ``.metadata``; `HuggingFaceStorageWriter`, which is used here, has the position of
each part in the headers of the files. In memory, PyTorch pickles what the processes of a job tell
each other about who writes what.)
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor import empty as empty_dtensor

from regard.errors import NextStep, ResourceError, WeightsError
from regard.hub.storage import (
    force_to_disk,
    require_space,
    temporary_folder,
    write_atomic,
    writing,
)
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


def is_sharded(tensors: Collection[Tensor]) -> bool:
    """Return whether processes hold parts of some of the tensors."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def write_sharded(
    checkpoints: Path,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, object],
    step: int,
    world: World,
    *next_steps: NextStep,
) -> Path:
    """Write tensors that processes hold together; called by all of them.

    Args:
        checkpoints: Folder of the checkpoints, which all processes see.
        tensors: By name; those that are no `DTensor` are the same everywhere.
        state: Values that JSON holds without loss.
        step: Step of the run, which names the folder.
        world: The processes.
        next_steps: Commands that help where the disk is full.

    Returns:
        The path of the file that names the checkpoint.

    Raises:
        ConfigError: The folder cannot be written.
        ResourceError: The disk is full, or a process does not see the folder; the previous
            checkpoint is intact.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    target = checkpoints / world.on_first(lambda: _free_name(checkpoints, step))
    temporary = checkpoints / world.share(temporary_folder(target).name)
    index = checkpoints / INDEX

    def create() -> None:
        if world.is_first:
            with writing(index, size, "checkpoint", *next_steps):
                require_space(index, size)
                temporary.mkdir(parents=True)

    def require_visible() -> None:
        if not temporary.is_dir():
            raise ResourceError(
                f"{checkpoints}: a folder of the first process that this one does not see.  A "
                "model that is shared out (`training.parallel=fsdp`) needs an `output` on a disk "
                "of all machines.  Or keep it whole on each: `training.parallel=ddp`"
            )

    def write() -> dict[str, str]:
        with writing(index, size, "checkpoint", *next_steps):
            return _write_own_part(temporary, tensors, world)

    def finish() -> None:
        if not world.is_first:
            return
        with writing(index, size, "checkpoint", *next_steps):
            force_to_disk(temporary)
            temporary.replace(target)
            force_to_disk(checkpoints)
        files = {name: checksum for part in checksums for name, checksum in part.items()}
        content = {"folder": target.name, "sha256": files, "state": dict(state)}
        write_atomic(index, json.dumps(content | {"checksum": _checksum_of(content)}))
        remove_others(checkpoints, target.name)

    try:
        world.together(create)
        world.together(require_visible)
        checksums = world.gather(world.together(write))
        world.together(finish)
    finally:
        if world.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
    return index


def _free_name(checkpoints: Path, step: int) -> str:
    """Return the name of a folder that is not there yet."""
    name, number = f"step-{step:08}", 1
    while (checkpoints / name).exists():
        name, number = f"step-{step:08}-{number}", number + 1
    return name


def _write_own_part(folder: Path, tensors: Mapping[str, Tensor], world: World) -> dict[str, str]:
    """Write what this process holds; return the checksums of its files by name."""
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save(dict(tensors), storage_writer=writer, process_group=world.control)
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        if isinstance(cause, OSError):
            raise cause from error
        raise
    # The names that PyTorch gives begin with the number of the process, from 1.
    own = sorted(folder.glob(f"shard-{world.rank + 1:05}-*.safetensors"))
    for path in own:
        force_to_disk(path)
    return {path.name: _sha256(path) for path in own}


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


def read_index(checkpoints: Path) -> Index:
    """Read the file that names the last checkpoint.

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
            if _sha256(path) != index.sha256[name]:
                raise WeightsError(f"{path}: damaged: the checksum does not agree.  {_RESTORE}")

    world.together(check)


def read_shapes(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Return shape and type of every tensor of a folder, by name."""
    metadata = HuggingFaceStorageReader(str(folder)).read_metadata()
    return {
        name: (entry.size, entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def read_whole(folder: Path) -> dict[str, Tensor]:
    """Read a checkpoint on one process: all tensors by name."""
    tensors = {
        name: torch.empty(shape, dtype=dtype)
        for name, (shape, dtype) in read_shapes(folder).items()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return tensors


def read_parts(
    folder: Path, mesh: DeviceMesh, sharded: Collection[torch.Size], world: World
) -> dict[str, Tensor]:
    """Read a checkpoint on several processes, each its part.

    Args:
        folder: The folder of the tensors.
        mesh: The processes among which parameters are shared out, by rows.
        sharded: Shapes of the parameters: tensors of these shapes are shared out.
        world: The processes.

    Returns:
        The tensors by name.
    """
    tensors: dict[str, Tensor] = {
        name: empty_dtensor(shape, dtype=dtype, device_mesh=mesh, placements=[Shard(0)])
        if shape in sharded
        else torch.empty(shape, dtype=dtype)
        for name, (shape, dtype) in read_shapes(folder).items()
    }
    reader = HuggingFaceStorageReader(str(folder))
    dcp.load(tensors, storage_reader=reader, process_group=world.control)
    return tensors


def _checksum_of(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
