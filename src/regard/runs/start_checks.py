"""The start of a run on several processes: all have the same, or the one that differs is named.

Each process reads the data itself, from a shared or a copied disk. Settings, versions, data,
vocabulary and first weights are compared; what a machine has more or less of than another, such as
memory, is taken from the weakest.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import msgspec
import torch
from msgspec.structs import replace
from torch import nn

from regard.data.readers.source import DataSource
from regard.data.readers.table_origin import TableOrigin
from regard.data.tokenizer import Tokenizer
from regard.errors import ConfigError, DataError, ResourceError, WeightsError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.file_names import CONFIG, TOKENIZER
from regard.hub.model_folder import ModelFolder
from regard.hub.storage import free_bytes
from regard.runs.sent_folders import share_folder, share_table
from regard.settings.binding import from_toml, to_toml
from regard.setup.config import SOURCES, DataConfig, RunConfig
from regard.setup.estimate import Measurement
from regard.setup.facts import Machine
from regard.setup.inspect import open_sources
from regard.setup.request import Request
from regard.training.distribution import World
from regard.training.events import Planned, Report, Warned

_SHOWN = 12  # characters of a hash
_MEGABYTE = 1_000_000
_SEND = "Copy it there, or have rank 0 send it: `data_from_rank_0=true`"


def require_same_program(world: World, version: str, options: Mapping[str, bool]) -> None:
    """Raise ConfigError where a rank has another program or command than rank 0.

    Args:
        world: The processes.
        version: Version of regard.
        options: Whether an option is set, by its name.
    """
    flags = {name: "set" if is_set else "not set" for name, is_set in options.items()}
    versions = {"the version of regard": version, "that of PyTorch": str(torch.__version__)}
    require_same(world, versions | flags)


def require_own_gpus(world: World, device: str) -> None:
    """Check that no GPU is named for processes of a machine that have one each.

    Args:
        world: The processes; nccl, by which they exchange gradients, takes no GPU twice.
        device: Its name, ``cuda:N``, or another.

    Raises:
        ConfigError: One is.
    """
    if ":" in device and world.gradients is not None and world.num_neighbors > 1:
        raise ConfigError(
            f"{device}: one GPU for {world.num_neighbors} processes of this machine.  Take "
            "`device=cuda`: each takes its own."
        )


def share_request(
    world: World,
    parse: Callable[[str | Path | None], Request],
    config: str | Path | None,
    data: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Request:
    """Return the request of a run, the same on every rank.

    Args:
        world: The processes.
        parse: Returns the request with the settings of a configuration file.
        config: The file, which only rank 0 needs to have.
        data: The data as named.
        settings: The settings as typed.

    Raises:
        ConfigError: A rank was given something else than rank 0, or the request is refused.
    """
    if not world.is_shared:
        return parse(config)
    typed = {name: value for name, _, value in (word.partition("=") for word in settings)}
    require_same(world, {"data": str(data)} | typed)
    if config is None:
        return world.together(lambda: parse(None))
    request: list[Request] = []

    def read() -> str:
        request.append(parse(config))
        path = Path(config)
        return path.read_text(encoding="utf-8")

    text = world.on_first(read)
    if not request:
        with TemporaryDirectory() as folder:
            path = Path(folder) / CONFIG
            path.write_text(text, encoding="utf-8")
            request.append(parse(path))
    return request[0]


def open_shared_sources(
    world: World,
    data: DataConfig,
    opened: Mapping[str, DataSource] = MappingProxyType({}),
    *,
    data_from_rank_0: bool = False,
) -> dict[str, DataSource]:
    """Open the files and folders that settings name, the same on every rank.

    Args:
        world: The processes.
        data: The settings.
        opened: Sources that are already open, by the name of their setting.
        data_from_rank_0: Whether rank 0 sends its files to the others. Streams it always sends.

    Returns:
        The open sources by the name of their setting.

    Raises:
        ConfigError: A folder is to be sent that has links to others.
        DataError: A file is missing, or has another content than on rank 0.
        ResourceError: A machine cannot keep the files of a folder that is sent.
    """
    if not world.is_shared:
        return open_sources(data, opened)
    sources = dict(opened)
    for name, (path, kind) in world.on_first(lambda: _open_on_first(data, sources)).items():
        if kind == "stream" or data_from_rank_0:
            sources[name] = _send(world, sources.get(name), path, kind)

    def open_rest() -> None:
        try:
            sources.update(open_sources(data, sources))
        except DataError as error:
            raise DataError(f"{error}  Rank 0 has it.  {_SEND}") from error

    world.together(open_rest)
    _require_same_data(world, sources)
    return sources


def _open_on_first(data: DataConfig, sources: dict[str, DataSource]) -> dict[str, tuple[str, str]]:
    """Open what is not open yet, on rank 0; return its name as typed and its kind, by setting."""
    opened = set(sources)
    sources.update(open_sources(data, sources))
    return {
        name: (source.path, _kind(source)) for name, source in sources.items() if name not in opened
    }


def _kind(source: DataSource) -> str:
    if source.is_folder:
        return "folder"
    return "stream" if source.is_stream else "file"


def _send(world: World, source: DataSource | None, path: str, kind: str) -> DataSource:
    """Return a source of rank 0 on every rank; elsewhere than on rank 0 it is not open yet."""
    if kind == "folder":
        return share_folder(world, source, path)
    content = world.share(b"" if source is None else source.content)
    table = world.share(None if source is None else msgspec.to_builtins(source.table))
    source = source or DataSource(
        path,
        content,
        is_stream=kind == "stream",
        table=msgspec.convert(table, TableOrigin | None),
    )
    has_files = source.table is not None and source.table.media and not source.is_stream
    return share_table(world, source) if has_files else source


def _require_same_data(world: World, sources: Mapping[str, DataSource]) -> None:
    hashes = world.gather({name: source.sha256 for name, source in sources.items()})
    for rank, other in enumerate(hashes):
        for name, source in sources.items():
            if other.get(name) != hashes[0].get(name):
                there, here = other.get(name, "")[:_SHOWN], hashes[0].get(name, "")[:_SHOWN]
                raise DataError(
                    f"{world.name(rank)}: {source.path}: has another content than on rank 0 "
                    f"(sha256 {there}... there, {here}... on rank 0).  {_SEND}"
                )


def share_machine(world: World, machine: Machine, report: Report) -> Machine:
    """Return what rank 0 knows of its machine, and of every machine what the weakest has.

    Raises:
        ConfigError: Some machines compute on a GPU, others do not.
    """
    if not world.is_shared:
        return machine
    machines = [
        msgspec.convert(fields, Machine) for fields in world.gather(msgspec.to_builtins(machine))
    ]
    first = machines[0]
    for rank, other in enumerate(machines):
        if other.device != first.device:
            raise ConfigError(
                f"{world.name(rank)}: computes on {other.device}, and rank 0 on {first.device}.  "
                "Choose what all have: `training.device=cpu`"
            )
    slow = [rank for rank, other in enumerate(machines) if not other.has_fast_bf16]
    if slow and len(slow) < world.size:
        text = f"{world.name(slow[0])} does not compute bf16 fast: all processes take float32."
        report(Warned(text=text))
    flops = machines[slow[0]].flops if slow else first.flops
    return replace(first, has_fast_bf16=not slow, flops=flops)


def share_measurement(world: World, measured: Measurement) -> Measurement:
    """Return what was measured on the slowest rank, the largest of each figure."""
    if not world.is_shared:
        return measured
    measurements = world.gather(msgspec.to_builtins(measured))
    largest = {name: max(other[name] for other in measurements) for name in measurements[0]}
    return msgspec.convert(largest, Measurement)


def require_disk_space(world: World, folder: Path, planned: Planned) -> None:
    """Check on rank 0 that the disk of a folder has room for a run.

    Raises:
        ResourceError: It has not; a checkpoint could not be written later.
    """

    def check() -> None:
        free = free_bytes(folder)
        if free < planned.disk_bytes:
            needed = max(1, round(planned.disk_bytes / _MEGABYTE))
            is_resumed = ModelFolder(folder).holds_model
            other = "" if is_resumed else ", or choose another `output`"
            raise ResourceError(
                f"{folder}: the disk has {free // _MEGABYTE:,.0f} MB free, and the run needs about "
                f"{needed:,} MB.  Make room there{other}."
            )

    world.on_first(check)


def share_saved_config(world: World, read: Callable[[], RunConfig]) -> RunConfig:
    """Return the settings that rank 0 reads from the folder of a run, on every rank."""
    if not world.is_shared:
        return read()
    return from_toml(world.on_first(lambda: to_toml(read())), RunConfig, name="rank 0")


def share_located(world: World, data: DataConfig, locate: Callable[[], DataConfig]) -> DataConfig:
    """Return the settings of a resumed run with the present paths of its data.

    Rank 0 finds them by the folder of the run. Where another rank has no such file, the path as
    typed may be right there.
    """
    if not world.is_shared:
        return locate()

    def list_paths() -> dict[str, str | None]:
        located = locate()
        return {name: getattr(located, name) for name in SOURCES}

    paths = {
        name: path
        for name, path in world.on_first(list_paths).items()
        if world.is_first or (path is not None and Path(path).exists())
    }
    return replace(data, **paths)


def share_config(world: World, config: RunConfig) -> RunConfig:
    """Return rank 0's settings of a run: a statistic of the data may differ in its last digit."""
    if not world.is_shared:
        return config
    text = world.share(to_toml(config))
    return config if world.is_first else from_toml(text, RunConfig, name="rank 0")


def share_tokenizer(world: World, read: Callable[[], AnyTokenizer]) -> AnyTokenizer:
    """Return the vocabulary that rank 0 reads or trains, on every rank."""
    if not world.is_shared:
        return read()
    own: list[AnyTokenizer] = []

    def list_files() -> dict[str, str | bytes]:
        own.append(read())
        return own[0].files()

    files = world.on_first(list_files)
    if own:
        return own[0]
    if set(files) == {TOKENIZER}:
        return Tokenizer.from_json(str(files[TOKENIZER]), name=f"{TOKENIZER} of rank 0")
    with TemporaryDirectory() as folder:
        for name, content in {CONFIG: "", **files}.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return ModelFolder(folder).read_tokenizer()


def require_same_vocabulary(world: World, tokenizer: AnyTokenizer | None, origin: str) -> None:
    """Raise WeightsError where a rank has read another vocabulary than rank 0."""
    if tokenizer is None or not world.is_shared:
        return
    checksum = 0
    for name, content in sorted(tokenizer.files().items()):
        encoded = content if isinstance(content, bytes) else content.encode()
        checksum = zlib.crc32(encoded, zlib.crc32(name.encode(), checksum))
    _require_same_origin(world, world.gather(checksum), origin, "another vocabulary")


def share_weights(world: World, model: nn.Module, origin: str | None) -> None:
    """Give every rank the first weights of rank 0.

    Args:
        world: The processes.
        model: The model.
        origin: Where trained weights were read; None for random weights, whose last digits may
            depend on the processor.

    Raises:
        WeightsError: A rank has read other weights.
    """
    if not world.is_shared:
        return
    checksums = world.gather(weights_checksum(model))
    if origin is not None:
        _require_same_origin(world, checksums, origin, "other weights")
    elif len(set(checksums)) > 1:
        for parameter in model.parameters():
            world.send(parameter.data)


def weights_checksum(model: nn.Module) -> int:
    """Return a checksum of the weights of a model."""
    checksum = 0
    for parameter in model.parameters():
        content = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8)
        checksum = zlib.crc32(content.numpy().data, checksum)
    return checksum


def _require_same_origin(world: World, checksums: Sequence[int], origin: str, what: str) -> None:
    """Raise WeightsError where a rank has another checksum of what it read than rank 0."""
    rank = next((rank for rank, other in enumerate(checksums) if other != checksums[0]), None)
    if rank is not None:
        raise WeightsError(
            f"{world.name(rank)}: {origin}: has {what} than on rank 0.  Copy the folder of "
            "rank 0 there."
        )


def require_same(world: World, values: Mapping[str, str]) -> None:
    """Raise ConfigError where a rank has other values than rank 0, with the first difference."""
    all_values = world.gather(dict(values))
    for rank, other in enumerate(all_values):
        for name in sorted(other.keys() | all_values[0].keys()):
            there, here = (part.get(name, "not set") for part in (other, all_values[0]))
            if there != here:
                raise ConfigError(
                    f"{world.name(rank)}: {name} is {there} there, and {here} on rank 0.  Start "
                    "all processes alike."
                )
