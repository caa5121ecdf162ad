"""Runs from data to a model folder: `train`, `resume`, and `estimate` without training.

The folder is locked and the files are opened here; `regard.runs.session` does the rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from regard.data.progress import Stage, report_stages
from regard.data.readers.memory import is_in_memory, source_of_rows
from regard.data.readers.source import DataSource
from regard.errors import ConfigError, DataError, NextStep, resource_errors
from regard.hub.file_names import CHECKPOINTS, CONFIG
from regard.hub.folder_lock import FolderLock, require_unlocked
from regard.hub.model_folder import ModelFolder
from regard.hub.storage import sweep_temporaries
from regard.runs.session import RunSession
from regard.runs.session_setup import SessionContext
from regard.runs.start_checks import (
    open_shared_sources,
    require_disk_space,
    require_own_gpus,
    share_located,
    share_request,
    share_saved_config,
)
from regard.settings.validation import require_path
from regard.setup.config import RunConfig
from regard.setup.inspect import located, sources_hash
from regard.setup.request import Request
from regard.tasks.opening import open_model
from regard.training.checkpoint import checkpoint_path
from regard.training.device import choose_device
from regard.training.distribution import ALONE, World
from regard.training.events import Event, Planned, Report, Warned, WorkingOn
from regard.training.steppers import reproducible

_LESS_DATA = "Less fits: a part of the data."


def ignore_events(event: Event) -> None:
    """Ignore an event."""


def train(
    data: str | Path | None,
    output: str | Path,
    *,
    settings: Sequence[str] = (),
    config: str | Path | None = None,
    sources: Mapping[str, DataSource] = MappingProxyType({}),
    report: Report = ignore_events,
    start_time: float | None = None,
    world: World = ALONE,
    data_from_rank_0: bool = False,
) -> Any:
    """Train a model on a file of text, or on images, recordings or series with labels.

    Args:
        data: TSV, CSV, JSONL or text file, a folder with one folder a label, ``-`` for standard
            input, or None for the data of the settings, by default the embedded corpus.
        output: Folder of the new model; must not hold one yet.
        settings: ``section.key=value`` each, such as ``training.minutes=15``.
        config: A ``config.toml`` with settings.
        sources: Rows in memory, by the name of their setting, such as ``valid``.
        report: Called with every event of the run.
        start_time: Clock (``time.monotonic``) from which the time budget counts; None means now.
        world: The processes that train together; all are called with the same arguments.
        data_from_rank_0: Whether rank 0 sends its data to the other processes.

    Returns:
        The trained model, ready for use, such as a `Translator`.

    Raises:
        ConfigError: A setting is wrong or the folder already holds a model.
        DataError: The data cannot be used.
        ResourceError: There is not enough memory or disk space.
        Stopped: Ctrl-C or SIGTERM; a checkpoint has been written.
    """
    start_time = time.monotonic() if start_time is None else start_time
    folder = _named_folder(output)
    context = SessionContext(folder, report, start_time, world, data_from_rank_0)
    world.on_first(lambda: require_free(folder))
    request = share_request(
        world, lambda file: _request(data, settings, file, sources), config, data, settings
    )
    with ExitStack() as stack:
        stack.enter_context(_report_work(report))
        lock = FolderLock(folder.path)
        # A folder within that of the data would be listed with it.
        locks_late = world.on_first(lambda: _is_within_data(folder.path, request))
        if not locks_late:
            _hold(lock, stack, world)
        with resource_errors(_LESS_DATA):
            run = RunSession.from_request(request, context, sources)
        if locks_late:
            _hold(lock, stack, world)
        # Another run may have begun in the meantime.
        world.on_first(lambda: require_free(folder, is_locked=True))
        return run.start(lock)


def _report_work(report: Report) -> AbstractContextManager[None]:
    """Report the stages of the work within that take long as events."""

    def on_stage(stage: Stage) -> None:
        # What cannot be written must not end a step: the next event of the run says so.
        with suppress(OSError):
            report(WorkingOn(stage=stage.name, done=stage.done, total=stage.total, unit=stage.unit))

    return report_stages(on_stage)


def _hold(lock: FolderLock, stack: ExitStack, world: World) -> None:
    """Lock the folder of a run until the stack is closed, for all its processes on rank 0."""

    def enter() -> None:
        stack.enter_context(lock)

    world.on_first(enter)


def resume(
    output: str | Path,
    *,
    report: Report = ignore_events,
    device: str | None = None,
    start_time: float | None = None,
    world: World = ALONE,
    data_from_rank_0: bool = False,
) -> Any:
    """Resume a run that was stopped or killed, from its last checkpoint.

    Args:
        output: The run's folder.
        report: Called with every event of the run.
        device: What computes from here on; None is what the run began on, where the machine has it.
        start_time: Clock (``time.monotonic``) at which this session began; None means now.
        world: The processes that train together, as many as in the earlier session or not.
        data_from_rank_0: Whether rank 0 sends its data to the other processes.

    Returns:
        The trained model. A run that has finished is left as it is, and opened on rank 0 alone.

    Raises:
        WeightsError: The folder holds no run, or its checkpoint is damaged.
        ConfigError: Another process trains in the folder, or the machine has no such device.
        DataError: The data has changed.
    """
    start_time = time.monotonic() if start_time is None else start_time
    folder = _named_folder(output)
    context = SessionContext(folder, report, start_time, world, data_from_rank_0)
    config = share_saved_config(world, lambda: folder.read_config(RunConfig))
    if world.on_first(lambda: folder.is_finished):
        return open_model(folder.path, device or "auto") if world.is_first else None
    if world.watch is not None:
        world.watch.note_resumable()
    checkpoint = Path(world.on_first(lambda: str(checkpoint_path(folder.path))))
    with ExitStack() as stack:
        stack.enter_context(_report_work(report))
        lock = FolderLock(folder.path)
        _hold(lock, stack, world)
        if world.is_first:
            sweep_temporaries(folder.path)
            sweep_temporaries(folder.path / CHECKPOINTS)
        data = share_located(world, config.data, lambda: located(config.data, folder))
        sources = open_shared_sources(world, data, data_from_rank_0=data_from_rank_0)
        world.on_first(lambda: _require_unchanged(config, sources, folder))
        if world.on_first(checkpoint.exists):
            require_own_gpus(world, device or config.training.device)
            present = _present_device(config.training.device, device, report)
            with resource_errors(_LESS_DATA):
                run = RunSession.from_folder(config, context, sources, present)
            return run.resume(lock)
        report(Warned(text=f"{checkpoint} is missing: the run starts again from its first step."))
        typed = () if device is None else (f"training.device={device}",)
        request = share_request(
            world, lambda file: Request.parse(typed, file=file), folder.path / CONFIG
        )
        with resource_errors(_LESS_DATA):
            run = RunSession.from_request(request, context, sources)
        return run.start(lock)


def estimate(
    data: str | Path | None,
    output: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    config: str | Path | None = None,
    report: Report = ignore_events,
    world: World = ALONE,
    data_from_rank_0: bool = False,
) -> Planned:
    """Predict time, memory and disk of a run from a few measured steps; nothing is written.

    Args:
        data: The data, in the forms of `train`.
        output: Folder of the run, checked as by `train`; None leaves it open.
        settings: ``section.key=value`` each.
        config: A ``config.toml`` with settings.
        report: Called with the events before the first step.
        world: The processes that would train together; all are called with the same arguments.
        data_from_rank_0: Whether rank 0 sends its data to the other processes.

    Returns:
        The plan.

    Raises:
        ConfigError: A setting is wrong, or the folder cannot be used.
        DataError: The data cannot be used.
        ResourceError: There is not enough memory or disk space.
    """
    start_time = time.monotonic()
    folder = None if output is None else _named_folder(output)
    if folder is not None:
        world.on_first(lambda: require_free(folder))
    request = share_request(
        world, lambda file: _request(data, settings, file), config, data, settings
    )
    with _report_work(report):
        with resource_errors(_LESS_DATA):
            context = SessionContext(ModelFolder("."), report, start_time, world, data_from_rank_0)
            run = RunSession.from_request(request, context)
        with reproducible(run.config.training, run.setup.device):
            planned = run.plan()[1]
    if folder is not None:
        require_disk_space(world, folder.path, planned)
    return planned


def _require_unchanged(
    config: RunConfig, sources: Mapping[str, DataSource], folder: ModelFolder
) -> None:
    """Raise DataError where a file of the data is not the one that the run began with."""
    recorded = folder.manifest.sources()
    changed = [
        source.path
        for name, source in sources.items()
        if recorded.get(name, source.sha256) != source.sha256
    ]
    if not changed and config.data.path and sources_hash(sources) != config.data.sha256:
        changed = [config.data.path]  # a run without a manifest
    if changed:
        raise DataError(
            f"{changed[0]}: has changed since this run began (sha256 differs).  "
            "Restore the file, or train again with another `output`."
        )


def _present_device(began_on: str, requested: str | None, report: Report) -> torch.device:
    """Return what a resumed run computes on: what it began on, unless that is not here.

    Raises:
        ConfigError: Another device was requested, which the machine does not have.
    """
    if requested is not None:
        return choose_device(requested)
    try:
        return choose_device(began_on)
    except ConfigError as error:
        device = choose_device("auto")
        report(Warned(text=f"The run began on {error}  It continues on {device}."))
        return device


def _named_folder(output: str | Path) -> ModelFolder:
    """Return the folder of a run; an empty name, which would be the present folder, is refused."""
    require_path("output", output, "the run's folder")
    if output == "":
        raise ConfigError("`output`: an empty name.  Name a folder.")
    return ModelFolder(output)


def _is_within_data(folder: Path, request: Request) -> bool:
    """Return whether a folder is in a folder of the data of a request, at any depth."""
    data = request.bind_all_but_model(RunConfig()).data
    folders = [
        Path(os.path.realpath(path))
        for path in (data.path, data.valid, data.test)
        if path and os.path.isdir(path)  # noqa: PTH112 - False for names that are too long
    ]
    return any(Path(os.path.realpath(folder)).is_relative_to(path) for path in folders)


def separate_data(
    parts: Mapping[str, object],
) -> tuple[dict[str, str], dict[str, DataSource]]:
    """Return the data that has a name, and the data in memory.

    Args:
        parts: Files, folders, fractions to hold out, rows in memory or None, by their settings.

    Returns:
        The names of the first three, such as ``10%`` for 0.1, and the sources of rows in memory.
    """
    named, sources = {}, {}
    for setting, part in parts.items():
        if is_in_memory(part):
            name = "data" if setting == "path" else setting
            sources[setting] = source_of_rows(part, name=name)
        elif part is not None:
            named[setting] = f"{100 * part:.12g}%" if isinstance(part, float) else str(part)
    return named, sources


def require_free(folder: ModelFolder, *, is_locked: bool = False) -> None:
    """Check that a folder holds no run, and no file that one would replace, and can be created.

    Args:
        folder: The folder.
        is_locked: Whether the caller holds its lock.

    Raises:
        ConfigError: With what to do instead.
    """
    if not folder.holds_model:
        folder.check_writable()
        folder.require_no_other_files()
        return
    if not is_locked:
        require_unlocked(folder.path)
    state = "a finished model" if folder.is_finished else "a run that can be resumed"
    raise ConfigError(
        f"{folder.path}: already holds {state}; nothing was changed.  "
        "Train a new model: another `output`.",
        NextStep("Resume", "train", settings=(("output", str(folder.path)), ("resume", ""))),
    )


def _request(
    data: str | Path | None,
    settings: Sequence[str],
    config: str | Path | None,
    sources: Mapping[str, DataSource] = MappingProxyType({}),
) -> Request:
    paths = {} if data is None else {"path": str(data)}
    paths |= {name: source.path for name, source in sources.items()}
    return Request.parse(settings, file=config, paths=paths)
