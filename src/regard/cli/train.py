"""``regard train``: from a file to a trained model in a folder."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

import regard
from regard.cli.console import make_report
from regard.cli.data_options import UNSET, DataOptions
from regard.cli.live import LiveOptions, show_live
from regard.cli.parameters import Flag, Name, Output, Settings
from regard.cli.torchrun import join_run
from regard.cli.wording import command_text
from regard.errors import ConfigError, NextStep
from regard.runs.train_options import option_errors, settings_of

if TYPE_CHECKING:
    from regard.training.distribution import World
    from regard.training.events import Report
    from regard.training.launch import Launch

_PRESETS_NOTE = """
The defaults are those without a preset. A run takes the sizes of the model, training.batch_tokens
and optimizer.learning_rate from its preset (by default the one that suits the amount of data), and
dropout and precision from the data and the machine. Tasks other than translation have defaults of
their own. The folder's config.toml holds what a run has; --dry-run shows the sizes beforehand.
"""


@Parameter(name="*")
@dataclass(frozen=True)
class RunOptions:
    """What a run starts from, and its size, time and random numbers.

    Attributes:
        start_from: Folder of a model to start from: one of your own, or one in Hugging Face's
            format.
        preset: Size of the model: tiny, small, base, or auto (by the amount of data).
        minutes: Wall-clock budget. Without it the run stops when validation stops improving.
        seed: Seed of all random numbers.
        device: What computes: cpu, cuda (a GPU; of several, cuda:N), or auto (the default), a GPU
            where there is one. A run that is resumed may take another one.
        precision: float32, bf16, or auto (the default): bf16 where the device computes it fast.
        threads: Threads of the processor; the default is one for each core.
        tensorboard: Also write event files of TensorBoard, to the folder tensorboard in the output.
    """

    start_from: Annotated[str | None, Name, Parameter(name="--from")] = None
    preset: str | None = None
    minutes: float | None = None
    seed: int | None = None
    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    tensorboard: Annotated[bool, Flag] = False

    def values(self) -> dict[str, object]:
        """Return the options that are settings, by name."""
        values = asdict(self)
        del values["threads"]
        return values


_UNSET_RUN = RunOptions()
_NO_PAGE = LiveOptions()


def train(
    data: Annotated[str | None, Name] = None,
    *,
    output: Annotated[str | None, Output] = None,
    run_options: RunOptions = _UNSET_RUN,
    settings: Annotated[tuple[str, ...], Settings] = (),
    config: Annotated[str | None, Name] = None,
    options: DataOptions = UNSET,
    resume: Annotated[bool, Flag] = False,
    data_from_rank_0: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    live_options: LiveOptions = _NO_PAGE,
    json: Annotated[bool, Flag] = False,
    help_config: str | None = None,
) -> None:
    """Train a model on a file of text.

    Parameters
    ----------
    data
        Sentence pairs (TSV, CSV, JSONL, Parquet), documents with summaries (columns document and
        summary), texts with labels (text and label), questions on texts (context, question and
        answers), running text (.txt), series (a column of times, and numbers), rows of numbers with
        labels (CSV with label), or a folder with one folder of images or WAV files a label; - reads
        standard input.
    output
        Folder of the new model.
    run_options
        What the run starts from, and its size, time and random numbers.
    settings
        section.key=value, such as training.epochs=3; see --help-config.
    config
        A config.toml to take the settings from.
    options
        Where the data is and how it is read.
    resume
        Resume the run in the output folder; under torchrun, start it where there is none.
    data_from_rank_0
        Under torchrun: the first process sends its data to the others, which do not have it.
    dry_run
        Measure a few steps and predict time, memory and disk space; nothing is written. An output
        folder that the run would refuse is refused.
    live_options
        Whether a page shows the run, and where.
    json
        One JSON object per event instead of text.
    help_config
        Explain the settings of a section (or: all).
    """
    start_time = time.monotonic()
    if help_config is not None:
        print(_describe_settings(help_config))
        return
    live_options.check()
    if dry_run and live_options.is_wanted:
        raise ConfigError("--live shows a run, and --dry-run trains nothing.  Leave one out.")
    values = run_options.values() | asdict(options)
    typed = [*settings_of(values), *settings]
    if resume:
        output = _folder_to_resume(output, config, dry_run=dry_run)
    else:
        _require_data(data, typed, config)
    from regard.training.device import use_threads

    use_threads(run_options.threads)
    with option_errors(values):
        if dry_run:
            _estimate(data, output, typed, config, data_from_rank_0=data_from_rank_0, json=json)
            return
        if output is None:
            raise ConfigError("no output folder.  Add one: `output=FOLDER`")
        command = _Command(
            data=data,
            output=output,
            typed=typed,
            config=config,
            resume=resume,
            data_from_rank_0=data_from_rank_0,
            live=live_options,
            json=json,
        )
        _start(command, start_time)


def _start(command: _Command, start_time: float) -> None:
    """Train or resume alone, or with the other processes of torchrun."""
    with join_run() as launch, make_report(json=command.json) as report:
        if launch is None:
            _note_gpus(command, report)
            from regard.training.distribution import ALONE

            _run(command, ALONE, report, start_time, resumes=command.resume)
        else:
            _run_shared(command, launch, report, start_time)


def _names_data(data: str | None, typed: list[str]) -> bool:
    return data is not None or any(setting.startswith("data.path=") for setting in typed)


def _require_data(data: str | None, typed: list[str], config: str | None) -> None:
    """Raise ConfigError where nothing names data."""
    if config is None and not _names_data(data, typed):
        example = NextStep("Name a file", "train", ("pairs.tsv",), (("output", "FOLDER"),))
        raise ConfigError("no data.", example)


def _folder_to_resume(output: str | None, config: str | None, *, dry_run: bool) -> str:
    """Return the folder of the run to resume: the output, or the one of the configuration.

    Raises:
        ConfigError: Neither is named, or the run is to be predicted.
    """
    if dry_run:
        raise ConfigError("--dry-run predicts a new run.  Leave it or --resume out.")
    if output is not None:
        return output
    if config is None:
        raise ConfigError("--resume needs the folder of the run: regard train -o FOLDER --resume")
    return config.removesuffix("config.toml").rstrip("/") or "."


class _Command(NamedTuple):
    """What the command line says of a run.

    Args:
        data: The data; None where the settings name it.
        output: Folder of the run.
        typed: Settings as typed.
        config: A configuration file.
        resume: Whether a run is to be resumed.
        data_from_rank_0: Whether the first process sends its data to the others.
        live: Whether a page shows the run, and where.
        json: Whether events are written as JSON.
    """

    data: str | None
    output: str
    typed: list[str]
    config: str | None
    resume: bool
    data_from_rank_0: bool
    live: LiveOptions
    json: bool


def _estimate(
    data: str | None,
    output: str | None,
    typed: list[str],
    config: str | None,
    *,
    data_from_rank_0: bool,
    json: bool,
) -> None:
    """Predict a run; several processes measure together, and the first one reports."""
    from regard.runs import run
    from regard.runs.start_checks import require_same_program
    from regard.training.distribution import ALONE

    with join_run() as launch, make_report(json=json) as report:
        world = ALONE if launch is None else launch.world
        if world.is_shared:
            options = {"--dry-run": True, "--resume": False, "--data-from-rank-0": data_from_rank_0}
            require_same_program(world, regard.__version__, options)
        run.estimate(
            data,
            output,
            settings=typed,
            config=config,
            report=report if world.is_first else run.ignore_events,
            world=world,
            data_from_rank_0=data_from_rank_0,
        )


def _run_shared(command: _Command, launch: Launch, report: Report, start_time: float) -> None:
    """Train with other processes; resume after they were started again."""
    from regard.hub.model_folder import ModelFolder
    from regard.runs.run import ignore_events
    from regard.runs.start_checks import require_same_program

    world = launch.world
    options = {"--resume": command.resume, "--data-from-rank-0": command.data_from_rank_0}
    require_same_program(world, regard.__version__, options)
    if world.watch is not None:
        resume = NextStep("", "train", (), (("output", command.output), ("resume", "")))
        world.watch.advice = launch.advice
        world.watch.advice_once_resumable = launch.advice or f"Continue: {command_text(resume)}"
    resumes = command.resume
    if launch.num_restarts or (command.resume and _names_data(command.data, command.typed)):
        resumes = world.on_first(lambda: ModelFolder(command.output).holds_model)
    report = report if world.is_first else ignore_events
    _run(command, world, report, start_time, resumes=resumes)


def _run(
    command: _Command, world: World, report: Report, start_time: float, *, resumes: bool
) -> None:
    """Train, or resume a run; one that is finished is left as it is."""
    from regard.hub.model_folder import ModelFolder
    from regard.runs import run
    from regard.setup.request import Request

    output = command.output
    if resumes:
        world.on_first(lambda: _require_same_settings(command))
        if world.on_first(lambda: ModelFolder(output).is_finished):
            print(f"{output}: this run is finished; nothing to resume.  Card: {output}/README.md")
            return
    live = command.live if world.is_first else _NO_PAGE
    with show_live(live, output, report, json=command.json) as report:
        if resumes:
            run.resume(
                output,
                device=Request.parse(command.typed).device,
                report=report,
                start_time=start_time,
                world=world,
                data_from_rank_0=command.data_from_rank_0,
            )
        else:
            run.train(
                command.data,
                output,
                settings=command.typed,
                config=command.config,
                report=report,
                start_time=start_time,
                world=world,
                data_from_rank_0=command.data_from_rank_0,
            )


def _require_same_settings(command: _Command) -> None:
    """Raise ConfigError for settings other than those that a run began with."""
    from regard.hub.model_folder import ModelFolder
    from regard.setup.config import RunConfig
    from regard.setup.request import Request
    from regard.training.checkpoint import checkpoint_path

    folder = ModelFolder(command.output)
    folder.require_model()
    saved = folder.read_config(RunConfig)
    paths = {} if command.data is None else {"path": command.data}
    request = Request.parse(command.typed, file=command.config, paths=paths)
    if (change := request.first_change(saved)) is not None:
        name, old, new = change
        noun = {"tokenizer.vocab_size": "vocabulary"}.get(name, name)
        path = checkpoint_path(folder.path)
        origin = path.with_suffix("") if path.exists() else folder.path
        raise ConfigError(
            f"{origin}: made for {noun} {old}, this config says {new}.  "
            "Resume takes the saved config; to start anew use another `output`."
        )


def _note_gpus(command: _Command, report: Report) -> None:
    """Say what command uses several GPUs, of which one process uses one at most."""
    import torch

    from regard.training.events import Warned

    count = torch.cuda.device_count()
    if count < 2:
        return
    settings = (tuple(setting.partition("=")[::2]) for setting in command.typed)
    options = [("output", command.output), *settings]
    options += [("config", command.config)] if command.config else []
    options += [("resume", "")] if command.resume else []
    arguments = () if command.data is None else (command.data,)
    text = command_text(NextStep("", "train", arguments, tuple(options)))
    report(
        Warned(
            text=f"This machine has {count} GPUs, and one process takes one of them at most.  A "
            f"process for each: torchrun --nproc-per-node {count} -m {text}"
        )
    )


def _describe_settings(section: str) -> str:
    from msgspec.structs import replace

    from regard.settings.binding import describe
    from regard.setup.config import RunConfig
    from regard.tasks import DEFAULT_TASK, TASKS

    settings = describe(
        RunConfig,
        None if section == "all" else section,
        base=replace(TASKS[DEFAULT_TASK].defaults, task=""),
        choices={"task": tuple(TASKS)},
    )
    return settings + _PRESETS_NOTE
