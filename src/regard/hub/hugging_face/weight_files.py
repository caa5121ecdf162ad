"""The tensors of a Hugging Face folder: one safetensors file or several shards, never a pickle.

``model.safetensors.index.json`` maps each tensor to the shard that holds it. Whatever it says, only
files in the folder itself are opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import safetensors.torch
from torch import Tensor

from regard.errors import WeightsError
from regard.hub.file_names import WEIGHTS, WEIGHTS_INDEX
from regard.hub.hugging_face.other_folders import describe_weights
from regard.hub.storage import read_tensors, tensor_ends, write_atomic

SHARD_BYTES = 5_000_000_000  # most bytes of a file of weights
_MEGABYTE = 1_000_000


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        WeightsError: The file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: a JSON object was expected.")
    return content


def read_optional_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where the file is missing."""
    return read_json(path) if path.is_file() else {}


def as_list(value: Any) -> list[Any]:
    """Return the value of a field as a list; any other value becomes its only element."""
    return value if isinstance(value, list) else [value]


def is_whole_number(value: object, least: int = 0) -> TypeGuard[int]:
    """Return whether the value of a field is a whole number of at least `least`."""
    return type(value) is int and value >= least


def read_all_tensors(folder: Path) -> dict[str, Tensor]:
    """Read every tensor of a folder, under the names and with the types of its files.

    Args:
        folder: A Hugging Face folder.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        WeightsError: There are none, they are pickles or for another library, a shard is missing
            or in another folder, or a file is damaged or cut short.
    """
    # In the order of transformers: a single file counts before old shards next to it.
    if (folder / WEIGHTS).is_file():
        return _read_file(folder / WEIGHTS)
    if (folder / WEIGHTS_INDEX).is_file():
        return _read_shards(folder)
    raise WeightsError(
        describe_weights(folder) or f"{folder}/: holds neither {WEIGHTS} nor {WEIGHTS_INDEX}."
    )


def weight_files(folder: Path) -> list[Path]:
    """Return the paths of a folder's weights: one file, or its shards.

    Args:
        folder: A Hugging Face folder.

    Returns:
        One path or more; the files need not exist.

    Raises:
        WeightsError: The index of shards is damaged.
    """
    if (folder / WEIGHTS).is_file() or not (folder / WEIGHTS_INDEX).is_file():
        return [folder / WEIGHTS]
    return [folder / name for name in _shard_names(folder / WEIGHTS_INDEX)]


def write_all_tensors(folder: Path, tensors: Mapping[str, Tensor], shard_bytes: int) -> None:
    """Write tensors to one file, or to several with an index; older weights are removed.

    Args:
        folder: Created as needed.
        tensors: Tensors by name, contiguous, on the CPU.
        shard_bytes: Maximum number of bytes of the tensors of a file; a larger tensor has a file of
            its own.

    Raises:
        ResourceError: The disk is full.
    """
    shards = _shards(tensors, shard_bytes)
    old_shards = folder.glob("model-*-of-*.safetensors")
    for path in (folder / WEIGHTS, folder / WEIGHTS_INDEX, *old_shards):
        if path.name not in shards:
            path.unlink(missing_ok=True)
    for name, shard in shards.items():
        # Releases of transformers before 5 refuse a file that does not name its format.
        write_atomic(folder / name, safetensors.torch.save(shard, {"format": "pt"}))
    if len(shards) > 1:
        write_atomic(folder / WEIGHTS_INDEX, dump_json(_index(shards)))


def _shards(tensors: Mapping[str, Tensor], shard_bytes: int) -> dict[str, dict[str, Tensor]]:
    """Divide tensors, in their order, among as few files as that allows, by their names."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    return {
        f"model-{number:05}-of-{len(shards):05}.safetensors": shard
        for number, shard in enumerate(shards, start=1)
    }


def _index(shards: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
    """Return the content of the file that names the shard of each tensor."""
    return {
        "metadata": {
            "total_size": sum(t.nbytes for shard in shards.values() for t in shard.values())
        },
        "weight_map": {key: name for name, shard in shards.items() for key in shard},
    }


def dump_json(content: Mapping[str, Any]) -> str:
    """Return the text of a JSON object, indented and sorted, as in all files of an export."""
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _read_shards(folder: Path) -> dict[str, Tensor]:
    names = _shard_names(folder / WEIGHTS_INDEX)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        counted = f"{len(names) - len(missing)} of {len(names)} shards found"
        raise WeightsError(f"{folder}/: {', '.join(missing)} missing ({counted}).")
    tensors: dict[str, Tensor] = {}
    for name in names:
        shard = _read_file(folder / name)
        if repeated := sorted(shard.keys() & tensors.keys()):
            raise WeightsError(f"{folder}/: tensor {repeated[0]} is in two shards.")
        tensors |= shard
    return tensors


def _shard_names(index: Path) -> list[str]:
    """Return the names of an index's shards, all files of its own folder."""
    shard_of = read_json(index).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise WeightsError(f"{index}: holds no weight_map, which names the shard of each tensor.")
    for shard in shard_of.values():
        if not _is_file_name(shard):
            raise WeightsError(
                f"{index}: the shard {json.dumps(shard)} leaves the folder.  "
                "Expected the name of a file next to the index."
            )
        if not shard.endswith(".safetensors"):
            raise WeightsError(
                f"{index}: the shard {json.dumps(shard)} is not a safetensors file.  "
                "Expected the name of a .safetensors file."
            )
    return sorted(set(shard_of.values()))


def _is_file_name(value: object) -> bool:
    return (
        isinstance(value, str) and value not in ("", ".", "..") and not set("/\\:\0") & set(value)
    )


def _read_file(path: Path) -> dict[str, Tensor]:
    """Read one file; where it is cut short, name the first tensor whose bytes are missing."""
    size, ends = path.stat().st_size, tensor_ends(path)
    lost = [name for name, end in ends.items() if end > size]
    if lost:
        first = min(lost, key=lambda name: ends[name])
        file = "File" if path.name == WEIGHTS else path.name
        actual, promised = (
            f"{num:,} bytes" if num < 10 * _MEGABYTE else f"{num / _MEGABYTE:,.0f} MB"
            for num in (size, max(ends.values()))
        )
        raise WeightsError(
            f"{path.parent}/: tensor {first} is missing ({len(ends) - len(lost)} of {len(ends)} "
            f"found).  {file} cut short? {actual}, header says {promised}."
        )
    return read_tensors(path, check=False)[0]
