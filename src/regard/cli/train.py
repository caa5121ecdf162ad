"""``regard train``: from a file to a trained model in a folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regard.cli.console import make_report
from regard.cli.data_options import UNSET, DataOptions
from regard.cli.parameters import Flag, Name, Output, Settings
from regard.errors import ConfigError, NextStep

if TYPE_CHECKING:
    from regard.training.events import Report

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
        tensorboard: Also write event files of TensorBoard, to the folder tensorboard in the output.
    """

    start_from: Annotated[str | None, Name, Parameter(name="--from")] = None
    preset: str | None = None
    minutes: float | None = None
    seed: int | None = None
    tensorboard: Annotated[bool, Flag] = False

    def settings(self) -> list[str]:
        """Return the options that are set as settings."""
        values = {
            "start_from": self.start_from,
            "preset": self.preset,
            "training.minutes": self.minutes,
            "training.seed": self.seed,
        }
        settings = [f"{name}={value}" for name, value in values.items() if value is not None]
        return [*settings, "training.tensorboard=true"] if self.tensorboard else settings


_UNSET_RUN = RunOptions()


def train(
    data: Annotated[str | None, Name] = None,
    *,
    output: Annotated[str | None, Output] = None,
    run_options: RunOptions = _UNSET_RUN,
    settings: Annotated[tuple[str, ...], Settings] = (),
    config: Annotated[str | None, Name] = None,
    options: DataOptions = UNSET,
    resume: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
    help_config: str | None = None,
) -> None:
    """Train a model on a file of text.

    Parameters
    ----------
    data
        Sentence pairs (TSV, CSV, JSONL), documents with summaries (columns document and summary),
        texts with labels (text and label), questions on texts (context, question and answers),
        running text (.txt), rows of numbers with labels (CSV with label), or a folder with one
        folder of images or WAV files a label; - reads standard input.
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
        Resume the run in the output folder.
    dry_run
        Measure a few steps and predict time, memory and disk space; nothing is written. An output
        folder that the run would refuse is refused.
    json
        One JSON object per event instead of text.
    help_config
        Explain the settings of a section (or: all).
    """
    start_time = time.monotonic()
    if help_config is not None:
        print(_describe_settings(help_config))
        return
    typed = [*run_options.settings(), *options.settings(), *settings]
    with make_report(json=json) as report:
        if resume:
            if dry_run:
                raise ConfigError("--dry-run predicts a new run.  Leave it or --resume out.")
            if output is None and config is not None:
                output = config.removesuffix("config.toml").rstrip("/") or "."
            if output is None:
                message = "--resume needs the folder of the run: regard train -o FOLDER --resume"
                raise ConfigError(message)
            _resume(output, data, typed, config, report, start_time)
            return
        from regard.runs import run

        names_data = any(setting.startswith("data.path=") for setting in typed)
        if data is None and config is None and not names_data:
            example = NextStep("Name a file", "train", ("pairs.tsv",), (("output", "FOLDER"),))
            raise ConfigError("no data.", example)
        if dry_run:
            run.estimate(data, output, settings=typed, config=config, report=report)
        elif output is None:
            raise ConfigError("no output folder.  Add one: `output=FOLDER`")
        else:
            run.train(
                data, output, settings=typed, config=config, report=report, start_time=start_time
            )


def _resume(
    output: str,
    data: str | None,
    typed: list[str],
    config: str | None,
    report: Report,
    start_time: float,
) -> None:
    """Resume a run; refuse settings other than those that it began with."""
    from regard.hub.model_folder import ModelFolder
    from regard.runs import run
    from regard.setup.config import RunConfig
    from regard.setup.request import Request
    from regard.training.checkpoint import checkpoint_path

    folder = ModelFolder(output)
    folder.require_model()
    saved = folder.read_config(RunConfig)
    request = Request.parse(typed, file=config, paths={} if data is None else {"path": data})
    if (change := request.first_change(saved)) is not None:
        name, old, new = change
        noun = {"tokenizer.vocab_size": "vocabulary"}.get(name, name)
        path = checkpoint_path(folder.path)
        origin = path.with_suffix("") if path.exists() else folder.path
        raise ConfigError(
            f"{origin}: made for {noun} {old}, this config says {new}.  "
            "Resume takes the saved config; to start anew use another `output`."
        )
    if run.is_finished(folder):
        print(f"{output}: this run is finished; nothing to resume.  Card: {output}/README.md")
        return
    run.resume(output, report=report, start_time=start_time)


def _describe_settings(section: str) -> str:
    from regard.settings.binding import describe
    from regard.setup.config import RunConfig
    from regard.tasks import TASKS

    choices = {"task": tuple(TASKS)}
    settings = describe(RunConfig, None if section == "all" else section, choices=choices)
    return settings + _PRESETS_NOTE
