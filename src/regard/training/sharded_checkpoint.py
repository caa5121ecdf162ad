"""Checkpoints of a model of which every process holds a part (FSDP2), by PyTorch's own writer.

``checkpoints/last.json`` names a folder of safetensors files, one a process, which
`torch.distributed.checkpoint` writes and reads again on any number of processes; it also has a
checksum of each file, and the state as JSON. Every checkpoint gets a folder of its own. It counts
once ``last.json`` names it; then the one before is removed. So a killed writer leaves the previous
checkpoint as it was. No process holds more than its part, and a serialized copy of one file.

No file is pickled, and none is read that ``last.json`` does not name. (PyTorch's `FileSystemWriter`
would pickle its ``.metadata``; `HuggingFaceStorageWriter`, which is used here, has the position of
each part in the headers of the files. In memory, PyTorch pickles the messages in which
the processes of a job agree on who writes what.)
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard
from torch.distributed.tensor import empty as empty_dtensor

from regard.data.readers.source import file_hash
from regard.errors import NextStep, ResourceError
from regard.hub.storage import force_to_disk, require_space, temporary_folder, writing
from regard.training.checkpoint_index import (
    INDEX,
    remove_others,
    write_index,
)
from regard.training.distribution import World

_FILE_BYTES = 128_000_000  # of a file of a process, about


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
        write_index(checkpoints, target.name, files, state)
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
    writer = HuggingFaceStorageWriter(
        str(folder), fqn_to_index_mapping=_file_numbers(tensors, world), save_distributed=True
    )
    try:
        save(dict(tensors), storage_writer=writer, process_group=world.control)
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        if isinstance(cause, OSError):
            raise cause from error
        raise
    # The names that PyTorch gives begin with the number of the process, from 1.
    own = sorted(folder.glob(f"shard-{world.rank + 1:05}-*.safetensors"))
    for path in own:
        force_to_disk(path)
    return {path.name: file_hash(path) for path in own}


def _file_numbers(tensors: Mapping[str, Tensor], world: World) -> dict[str, int]:
    """Return in which file of a process each tensor is, from 1; a file is serialized at once."""
    numbers: dict[str, int] = {}
    number, size = 1, 0
    for name, tensor in tensors.items():
        if size > _FILE_BYTES:
            number, size = number + 1, 0
        numbers[name] = number
        size += tensor.numel() * tensor.element_size() // world.size
    return numbers


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
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return tensors


def read_parts(
    folder: Path,
    mesh: DeviceMesh,
    is_shared_out: Callable[[torch.Size, torch.dtype], bool],
    world: World,
) -> dict[str, Tensor]:
    """Read a checkpoint on several processes, each its part.

    Args:
        folder: The folder of the tensors.
        mesh: The processes among which parameters are shared out, by rows.
        is_shared_out: Returns whether a tensor of a shape and type is shared out.
        world: The processes.

    Returns:
        The tensors by name.
    """
    tensors: dict[str, Tensor] = {
        name: empty_dtensor(shape, dtype=dtype, device_mesh=mesh, placements=[Shard(0)])
        if is_shared_out(shape, dtype)
        else torch.empty(shape, dtype=dtype)
        for name, (shape, dtype) in read_shapes(folder).items()
    }
    reader = HuggingFaceStorageReader(str(folder))
    load(tensors, storage_reader=reader, process_group=world.control)
    return tensors
