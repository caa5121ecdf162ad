"""From what a user asked for, or a saved run, to the model and the batches of a session.

Its steps: read the data, collect the facts, decide all settings (`resolve`), build the model once,
arrange the data in batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import torch

from regard.data.readers.source import DataSource
from regard.data.tokenizer import Tokenizer, check_tags
from regard.errors import DataError, resource_errors
from regard.hub.any_tokenizer import AnyTokenizer, first_id_of
from regard.hub.file_names import DATA_REPORT
from regard.hub.model_folder import ModelFolder
from regard.runs.event_files import require_tensorboard
from regard.runs.start_checks import (
    open_shared_sources,
    require_own_gpus,
    require_same_vocabulary,
    share_config,
    share_machine,
    share_tokenizer,
    share_weights,
)
from regard.setup.base_task import Task
from regard.setup.build import (
    build_model,
    dropped_report,
    estimate_num_tokens,
    measure_sources,
    summarize_model,
)
from regard.setup.config import PresetName, RunConfig
from regard.setup.dataset import Dataset, ReadOptions
from regard.setup.facts import Facts, inspect_machine
from regard.setup.inspect import sources_hash, stored_paths
from regard.setup.memory_advice import MemoryAdvice
from regard.setup.pretrained import (
    Pretrained,
    load_initial_weights,
    read_pretrained,
    stored_vocabulary,
)
from regard.setup.request import Request
from regard.setup.resolve import resolve
from regard.setup.training_setup import RunParts, TrainingSetup
from regard.tasks import task_of, task_of_published
from regard.tasks.choice import choose_task
from regard.training.device import choose_device
from regard.training.distribution import ALONE, World
from regard.training.events import Report, Warned


class SessionContext(NamedTuple):
    """Where a session runs, and who hears of it.

    Args:
        folder: The run's folder.
        report: Called with every event.
        start_time: Clock (``time.monotonic``) at which the session began.
        world: The processes that train together.
        data_from_rank_0: Whether rank 0 sends its data to the other processes.
    """

    folder: ModelFolder
    report: Report
    start_time: float
    world: World = ALONE
    data_from_rank_0: bool = False


class SessionParts(NamedTuple):
    """What a session trains.

    Args:
        task: The task of the run.
        setup: Model, batches, loss and evaluation.
        advice: Finds settings that need less memory.
        sources: The open data by the name of its setting.
    """

    task: Task
    setup: TrainingSetup
    advice: MemoryAdvice
    sources: Mapping[str, DataSource]


def set_up_new_run(
    request: Request,
    context: SessionContext,
    sources: Mapping[str, DataSource],
) -> SessionParts:
    """Read the data, decide the settings, and build the model.

    Args:
        request: What the user set.
        context: Where the session runs.
        sources: Data that is already open, by the name of its setting.

    Returns:
        What the session of a new run trains.
    """
    world, report = context.world, context.report
    requested = request.bind_all_but_model(RunConfig())
    if requested.training.tensorboard:
        require_tensorboard()
    require_own_gpus(world, requested.training.device)
    sources = open_shared_sources(
        world, requested.data, sources, data_from_rank_0=context.data_from_rank_0
    )
    machine = share_machine(
        world, world.together(lambda: inspect_machine(requested.training.device)), report
    )
    task = choose_task(request, sources.get("path"))
    pretrained = world.together(lambda: read_pretrained(request, task, task_of, task_of_published))
    draft = request.check(task.defaults if pretrained is None else pretrained.config)
    task.require_family(draft.model)
    has_sizes = pretrained is not None and not pretrained.parts
    options = ReadOptions.from_request(request, draft, sources, has_sizes=has_sizes)
    dataset = task.read(options)
    report(dataset.summary())
    tokenizer = None
    if not task.reads_inputs:
        tokenizer = _choose_vocabulary(world, task, draft, dataset, pretrained)
    facts = Facts(
        data=dataset.facts(),
        paths=stored_paths(sources, context.folder),
        sha256=sources_hash(sources),
        vocab_size=0 if tokenizer is None else len(tokenizer),
        num_tokens=estimate_num_tokens(dataset, tokenizer),
        sources=measure_sources(dataset, tokenizer),
        pretrained=pretrained,
        first_id=None if tokenizer is None else first_id_of(tokenizer),
    )
    config = share_config(world, resolve(request, facts, machine, task))

    def resolve_preset(preset: PresetName) -> RunConfig | None:
        other = request.with_preset(preset)
        return None if other is None else resolve(other, facts, machine, task)

    device = choose_device(config.training.device)
    advice = MemoryAdvice(
        config, task, facts.vocab_size, resolve_preset, world=world, device=device
    )
    setup = _set_up(context, task, config, dataset, tokenizer, advice, device)
    if pretrained is not None and (note := load_initial_weights(setup.model, config, pretrained)):
        report(Warned(text=note))
    share_weights(world, setup.model, request.start_from)
    return SessionParts(task, setup, advice, sources)


def set_up_resumed_run(
    config: RunConfig,
    context: SessionContext,
    sources: Mapping[str, DataSource],
    device: torch.device,
) -> SessionParts:
    """Read the data and build the model as the first session did, on the device of this one.

    Args:
        config: The saved settings.
        context: Where the session runs.
        sources: The open data by the name of its setting.
        device: What this session computes on.

    Returns:
        What the session of a resumed run trains.
    """
    folder, report, world = context.folder, context.report, context.world
    if config.training.tensorboard:
        require_tensorboard()
    task = task_of(config)
    dataset = task.read(ReadOptions.from_config(config, sources))
    report(dataset.summary())
    tokenizer = None if task.reads_inputs else share_tokenizer(world, folder.read_tokenizer)
    vocab_size = 0 if tokenizer is None else len(tokenizer)
    advice = MemoryAdvice(config, task, vocab_size, world=world, device=device)
    setup = _set_up(context, task, config, dataset, tokenizer, advice, device)
    # What began the run recorded its rows without those that are too long for the model.
    world.on_first(lambda: _require_same_rows(folder, setup.dataset, report))
    return SessionParts(task, setup, advice, sources)


def _choose_vocabulary(
    world: World,
    task: Task,
    draft: RunConfig,
    dataset: Dataset,
    pretrained: Pretrained | None,
) -> AnyTokenizer:
    """Return the vocabulary of the pretrained model, or one trained on the data, on every rank.

    Args:
        world: The processes that train together.
        task: The task of the run.
        draft: The settings, before the facts of the data are known.
        dataset: The data.
        pretrained: The model that the run starts from; None where it starts at random.
    """
    if pretrained is not None:
        folder = stored_vocabulary(pretrained)
        tokenizer = world.together(lambda: task.fit_vocabulary(folder.read_tokenizer(), dataset))
        require_same_vocabulary(world, tokenizer, str(folder.path))
        return tokenizer
    check_tags(draft.tokenizer)
    vocab_size = draft.tokenizer.vocab_size or dataset.vocab_size
    settings = msgspec.structs.replace(draft.tokenizer, vocab_size=vocab_size)
    return share_tokenizer(world, lambda: Tokenizer.train(dataset.texts(), settings))


def _set_up(
    context: SessionContext,
    task: Task,
    config: RunConfig,
    dataset: Dataset,
    tokenizer: AnyTokenizer | None,
    advice: MemoryAdvice,
    device: torch.device,
) -> TrainingSetup:
    """Build the model where its weights fit into memory, and arrange the data in batches."""
    context.world.together(advice.require_weights)
    with resource_errors(advice.describe):
        model = build_model(config, 0 if tokenizer is None else len(tokenizer), task).to(device)
        parts = RunParts(
            config=config, dataset=dataset, tokenizer=tokenizer, model=model, world=context.world
        )
        setup = task.set_up(parts, context.report)
    context.report(summarize_model(config, model, task))
    return setup


def _require_same_rows(folder: ModelFolder, dataset: Dataset, report: Report) -> None:
    """Check that a resumed run reads the rows that it began with, from files that are the same.

    Another version may leave out other rows. A run without a hash of its rows has a list of those
    that were left out, of which a difference is reported.

    Raises:
        DataError: It reads other rows.
    """
    if (recorded := folder.manifest.rows()) and recorded != dataset.rows_sha256:
        raise DataError(
            f"{dataset.path}: other rows are read of it than when this run began, by another "
            "version of regard.  Resume with that version, or train again with another `output`."
        )
    path = folder.path / DATA_REPORT
    if recorded or not path.is_file():
        return
    before, now = path.read_text(encoding="utf-8", errors="replace"), dropped_report(dataset)
    if before.count("\n") != now.count("\n"):
        text = f"{path} lists other rows than are left out now: the run may continue on other rows."
        report(Warned(text=text))
