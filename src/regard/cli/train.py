"""``regard train``: from a file of pairs to a model folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regard.cli.console import make_report
from regard.cli.data_options import UNSET, DataOptions
from regard.cli.parameters import Flag, Input, Output, Settings
from regard.errors import ConfigError, NextStep

if TYPE_CHECKING:
    from regard.training.events import Report

_PRESETS_NOTE = """
The defaults are those without a preset. A run takes the sizes of the model, training.batch_tokens
and optimizer.learning_rate from its preset (by default the one that suits the amount of data), and
dropout and precision from the data and the machine. Tasks other than translation have defaults of
their own. The folder's config.toml holds what a run has; --dry-run shows the sizes beforehand.
"""
_EXAMPLE = ("pairs.tsv",), (("output", "FOLDER"),)


def train(
    data: Annotated[str | None, Input] = None,
    *,
    output: Annotated[str | None, Output] = None,
    start_from: Annotated[str | None, Parameter(name="--from")] = None,
    preset: str | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    settings: Annotated[tuple[str, ...], Settings] = (),
    config: str | None = None,
    options: DataOptions = UNSET,
    resume: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
    help_config: str | None = None,
) -> int:
    """Train a model on a file of text.

    Parameters
    ----------
    data
        Sentence pairs (TSV, CSV, JSONL), texts with labels (JSONL or CSV with text and label),
        running text (.txt), rows of numbers with labels (CSV with label), or a folder with one
        folder of images or WAV files a label; - reads standard input.
    output
        Folder of the new model.
    start_from
        Folder of a model to start from: one of your own, or one in Hugging Face's layout.
    preset
        Size of the model: tiny, small, base, or auto (by the amount of data).
    minutes
        Wall-clock budget. Without it the run stops when validation stops improving.
    seed
        Of everything random.
    settings
        section.key=value, such as training.epochs=3; see --help-config.
    config
        A config.toml to take the settings from.
    options
        Where the text comes from.
    resume
        Resume the run in the output folder.
    dry_run
        Measure a few steps, predict time, memory and disk, write nothing. An output folder that
        the run would refuse is refused.
    json
        One JSON object per event instead of text.
    help_config
        Explain the settings of a section (or: all).
    """
    start_time = time.monotonic()
    if help_config is not None:
        print(_describe(help_config))
        return 0
    words = {
        "start_from": start_from,
        "preset": preset,
        "training.minutes": minutes,
        "training.seed": seed,
    }
    chosen = [f"{key}={value}" for key, value in words.items() if value is not None]
    chosen += [*options.settings(), *settings]
    with make_report(json=json) as report:
        if resume:
            if config is not None and output is None:
                output = config.removesuffix("config.toml").rstrip("/") or "."
            if dry_run:
                raise ConfigError("--dry-run predicts a new run.  Leave it or --resume out.")
            _resume(data, output, chosen, report, start_time)
            return 0
        from regard.runs import run

        names_data = any(setting.startswith("data.path=") for setting in chosen)
        if data is None and config is None and not names_data:
            raise ConfigError("no data.", NextStep("Name a file", "train", *_EXAMPLE))
        if dry_run:
            run.estimate(data, output, settings=chosen, config=config, report=report)
            return 0
        if output is None:
            raise ConfigError("no output folder.  Add one: `output=FOLDER`")
        run.train(
            data, output, settings=chosen, config=config, report=report, start_time=start_time
        )
    return 0


def _resume(
    data: str | None, output: str | None, chosen: list[str], report: Report, start_time: float
) -> None:
    from regard.hub.model_folder import ModelFolder
    from regard.runs import run
    from regard.setup.config import RunConfig

    if output is None:
        raise ConfigError("--resume needs the folder of the run: regard train -o FOLDER --resume")
    folder = ModelFolder(output)
    folder.require_model()
    if data is not None and data != folder.read_config(RunConfig).data.path:
        chosen = [f"data.path={data}", *chosen]
    if chosen:
        raise ConfigError(
            f"--resume takes the saved settings; {chosen[0].split('=')[0]} cannot change.  "
            "Leave it out, or train a new model with another -o."
        )
    if run.is_finished(folder):
        print(f"{output}: this run is finished; nothing to resume.  Card: {output}/README.md")
        return
    run.resume(output, report=report, start_time=start_time)


def _describe(section: str) -> str:
    from regard.settings.binding import describe
    from regard.setup.config import RunConfig
    from regard.tasks import TASKS

    settings = describe(
        RunConfig, None if section == "all" else section, choices={"task": tuple(TASKS)}
    )
    return settings + _PRESETS_NOTE
