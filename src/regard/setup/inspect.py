"""The data files of a run: opened once, hashed, and copied to its folder if they are streams."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec.structs import replace

from regard.data.readers.source import DataSource, open_source
from regard.errors import ConfigError, DataError
from regard.hub.storage import write_atomic
from regard.setup.config import HELD_OUT, SOURCES, DataConfig

if TYPE_CHECKING:
    from regard.hub.model_folder import ModelFolder

_CHANGED = "has changed since the training"
_HASHED = ("path", "targets")  # what a resumed run must find unchanged
_NUMBER = re.compile(r"\s*[-+]?(\d+[.,]?\d*|[.,]\d+)(e[-+]?\d+)?\s*%?\s*|nan%?|[-+]?inf%?", re.I)
_USUAL_PERCENT = 10.0  # to propose


def open_sources(
    data: DataConfig, opened: Mapping[str, DataSource] = MappingProxyType({})
) -> dict[str, DataSource]:
    """Return the files and folders that settings name, opened, by the name of their setting.

    A folder of tables that has parts gives those of validation and test data that are not set.

    Args:
        data: The settings.
        opened: Sources that are already open, or rows in memory, by the name of their setting.

    Raises:
        ConfigError: A number is named for validation or test data, and is not a fraction; or an
            encoding is set for tables, which have their own.
        DataError: One is missing or cannot be read.
    """
    paths = {name: getattr(data, name) for name in SOURCES}
    for name in HELD_OUT:
        if data.held_out_fraction(name) is not None:
            del paths[name]
        elif name not in opened:
            _refuse_number(name, paths[name])
    missing = {name: path for name, path in paths.items() if path and name not in opened}
    sources = {**opened, **{name: open_part(path, name) for name, path in missing.items()}}
    sources |= _open_held_out(data, sources)
    if data.encoding != DataConfig().encoding and sources and all(map(_is_table, sources.values())):
        raise ConfigError(f"data.encoding={data.encoding}: tables have their own.  Leave it out.")
    return sources


def _is_table(source: DataSource) -> bool:
    return source.table is not None and source.table.has_encoding


def open_part(path: str, name: str) -> DataSource:
    """Open a file or folder; of a folder with parts, the one that a setting is named for."""
    return open_source(path, name if name in HELD_OUT else "train")


def _open_held_out(data: DataConfig, sources: Mapping[str, DataSource]) -> dict[str, DataSource]:
    """Open the parts of a folder of tables next to that of training, where none are set."""
    table = sources["path"].table if "path" in sources else None
    parts = () if table is None else table.held_out
    return {
        part: open_part(sources["path"].path, part)
        for part in parts
        if part in HELD_OUT and part not in sources and getattr(data, part) is None
    }


def _refuse_number(name: str, path: str | None) -> None:
    """Raise ConfigError where the name of held-out data is a number, and no such file exists."""
    if path is None or not _NUMBER.fullmatch(path) or Path(path).exists():
        return
    number = float(re.sub(r"[\s%]", "", path).replace(",", "."))
    if "%" in path:
        cause = "not a fraction of the data."
    elif number == 0:
        cause = "no such file, and a run always holds out some rows."
    else:
        cause = "no such file, and a number alone is not a fraction of the data."
    percent = number if "%" in path or number >= 1 else 100 * number
    proposal = percent if 0 < percent < 100 else _USUAL_PERCENT
    raise ConfigError(
        f"data.{name}={path}: {cause}  Hold out a fraction: `data.{name}={proposal:.12g}%`"
    )


def sources_hash(sources: Mapping[str, DataSource]) -> str:
    """Return the hash of training data; empty for the embedded corpus."""
    return "-".join(sources[name].sha256 for name in _HASHED if name in sources)


def stored_paths(sources: Mapping[str, DataSource], folder: ModelFolder) -> dict[str, str]:
    """Return where a resumed run finds the data; `store_streams` writes the streams there."""
    names = {"path": "data"}
    return {
        name: str(folder.path / f"{names.get(name, name)}{source.suffix}")
        if source.is_stream
        else source.path
        for name, source in sources.items()
    }


def source_locations(sources: Mapping[str, DataSource], folder: ModelFolder) -> dict[str, str]:
    """Return where a resumed run finds the data, relative to its folder, by setting."""
    root = os.path.realpath(folder.path)
    return {
        name: os.path.relpath(os.path.realpath(path), root)
        for name, path in stored_paths(sources, folder).items()
    }


def located(data: DataConfig, folder: ModelFolder) -> DataConfig:
    """Return the settings of a run with paths that are right in the present working directory.

    A path as typed is right in the directory where the run began. It is replaced by the location
    relative to the run's folder where it names no file, or one that is not that of the run.
    """
    hashes, paths = folder.manifest.sources(), {}
    for name, typed, path in _other_paths(data, folder):
        if not typed.exists() or open_source(typed).sha256 != hashes.get(name):
            paths[name] = str(path)
    return replace(data, **paths)


def with_present_paths(data: DataConfig, folder: ModelFolder) -> DataConfig:
    """Return the settings of a trained model with paths for the present working directory.

    No file is read. The location relative to the model's folder replaces a path as typed where that
    names no file, or where it is relative, so that it may name another file of the same name.
    """
    paths = {
        name: str(path)
        for name, typed, path in _other_paths(data, folder)
        if not (typed.is_absolute() and typed.exists())
    }
    return replace(data, **paths)


def _other_paths(data: DataConfig, folder: ModelFolder) -> Iterator[tuple[str, Path, Path]]:
    """Yield the settings whose data is at its location relative to a folder, and not as typed.

    Each with the path as typed, which may be that of another file, and the present one.
    """
    for name, location in folder.manifest.locations().items():
        typed = Path(getattr(data, name) or "")
        path = Path(os.path.normpath(folder.path / location))
        if path.exists() and not (typed.exists() and path.samefile(typed)):
            yield name, typed, path


def describe_change(data: DataConfig) -> str:
    """Return what became of the training data of a model since: empty where it is as it was."""
    if not data.path or not data.sha256:
        return ""
    try:
        sources = {name: open_source(path) for name in _HASHED if (path := getattr(data, name))}
    except DataError:
        return "the training data cannot be read"
    return "" if sources_hash(sources) == data.sha256 else _CHANGED


def warn_of_other_data(data: DataConfig) -> None:
    """Warn where the training data of a model is missing, or has changed since."""
    change = describe_change(data)
    if change == _CHANGED:
        change += ": rows that were in both may not be noticed."
    elif change:
        change += ": rows that are in both are not noticed."
    if change:
        warnings.warn(f"{data.path}: {change}", stacklevel=2)


def store_streams(sources: Mapping[str, DataSource], folder: ModelFolder) -> None:
    """Write the content of streams to the folder of a run, so that it can be resumed."""
    paths = stored_paths(sources, folder)
    for name, source in sources.items():
        if source.is_stream:
            write_atomic(Path(paths[name]), source.content)
