"""``regard train``: from a file of pairs to a model folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from regard.cli.console import make_report
from regard.errors import ConfigError

Flag = Parameter(negative=())


@Parameter(name="*")
@dataclass(frozen=True)
class DataOptions:
    """Where the text comes from, as options of the command line.

    Attributes:
        targets: File of target sentences, when DATA holds the source sentences only.
        valid: File of validation pairs; without it some rows are held out.
        test: File of test pairs; without it some rows are held out.
        lang: Language codes, such as en-de.
        encoding: Of the data files, such as latin1.
        drop_overlap: Drop held-out sources that also stand in the training data.
        allow_overlap: Keep them.
    """

    targets: str | None = None
    valid: str | None = None
    test: str | None = None
    lang: str | None = None
    encoding: str | None = None
    drop_overlap: Annotated[bool, Flag] = False
    allow_overlap: Annotated[bool, Flag] = False

    def settings(self) -> list[str]:
        """Write the options that are given as settings."""
        flags = {"drop_overlap": self.drop_overlap, "allow_overlap": self.allow_overlap}
        values = {
            "targets": self.targets,
            "valid": self.valid,
            "test": self.test,
            "languages": self.lang,
            "encoding": self.encoding,
        }
        given = {key: value for key, value in values.items() if value is not None}
        given |= {key: "true" for key, flag in flags.items() if flag}
        return [f"data.{key}={value}" for key, value in given.items()]


def train(
    data: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    *,
    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
    start_from: Annotated[str | None, Parameter(name="--from")] = None,
    preset: str | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    config: str | None = None,
    options: DataOptions = DataOptions(),
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
        Folder of a model to go on from: one of your own, or one in Hugging Face's layout.
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
        Go on with the run in the output folder.
    dry_run
        Measure a few steps, predict time, memory and disk, write nothing. An output folder that
        the run would refuse is refused.
    json
        One JSON object per event instead of text.
    help_config
        Explain the settings of a section (or: all).
    """
    started = time.monotonic()
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
    if resume:
        if config is not None and output is None:
            output = config.removesuffix("config.toml").rstrip("/") or "."
        return _resume(output, chosen, started, json=json)
    return _start(data, output, config, chosen, started, dry_run=dry_run, json=json)


def _start(
    data: str | None,
    output: str | None,
    config_path: str | None,
    chosen: list[str],
    started: float,
    *,
    dry_run: bool,
    json: bool,
) -> int:
    from regard.runs import run as runs
    from regard.training.signals import Stopped

    base = _read_config(config_path) if config_path else None
    if data is None and (base is None or base.data.path is None):
        raise ConfigError("no data.  Name a file: regard train pairs.tsv -o FOLDER")
    with make_report(json=json) as report:
        if dry_run:
            runs.estimate(data, output, settings=chosen, config=base, report=report)
            return 0
        if output is None:
            raise ConfigError("no output folder.  Add one: -o FOLDER")
        try:
            runs.train(data, output, settings=chosen, config=base, report=report, started=started)
        except Stopped as stopped:
            return stopped.exit_code
    return 0


def _resume(output: str | None, chosen: list[str], started: float, *, json: bool) -> int:
    from regard.hub.model_folder import ModelFolder
    from regard.runs import run as runs
    from regard.training.signals import Stopped

    if output is None:
        raise ConfigError("--resume needs the folder of the run: regard train -o FOLDER --resume")
    if chosen:
        raise ConfigError(
            f"--resume takes the saved settings; {chosen[0].split('=')[0]} cannot change.  "
            "Leave it out, or start anew with another -o."
        )
    folder = ModelFolder(output)
    folder.require_model()
    if runs.is_finished(folder):
        print(f"{output}: this run is finished; nothing to resume.  Card: {output}/README.md")
        return 0
    with make_report(json=json) as report:
        try:
            runs.resume(output, report=report, started=started)
        except Stopped as stopped:
            return stopped.exit_code
    return 0


def _read_config(path: str):
    from pathlib import Path

    import msgspec

    from regard.settings.binding import from_toml
    from regard.setup.config import RunConfig

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    found = from_toml(text, RunConfig, name=path)
    return msgspec.structs.replace(found, data=msgspec.structs.replace(found.data, sha256=""))


def _describe(section: str) -> str:
    from regard.settings.binding import describe
    from regard.setup.config import RunConfig

    return describe(RunConfig, None if section == "all" else section)
