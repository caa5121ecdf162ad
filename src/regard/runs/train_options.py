"""Options of training: settings with a short name, the same in Python and at the command line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_type_hints

import msgspec

from regard.errors import ConfigError, RegardError, did_you_mean
from regard.settings.validation import require_type
from regard.settings.values import word_of

if TYPE_CHECKING:  # options are read before PyTorch is needed
    from torch import device as Device
else:
    Device = object

SETTINGS = {
    "task": "task",
    "columns": "data.columns",
    "targets": "data.targets",
    "valid": "data.valid",
    "test": "data.test",
    "lang": "data.languages",
    "label_separator": "data.label_separator",
    "encoding": "data.encoding",
    "drop_overlap": "data.drop_overlap",
    "allow_overlap": "data.allow_overlap",
    "horizon": "forecast.horizon",
    "known": "forecast.known",
    "start_from": "start_from",
    "preset": "preset",
    "minutes": "training.minutes",
    "seed": "training.seed",
    "device": "training.device",
    "precision": "training.precision",
    "tensorboard": "training.tensorboard",
}
"""The setting of each option."""
_ARGUMENTS = {setting: name for name, setting in SETTINGS.items()}
_IN_BACKTICKS = re.compile(r"`([a-z]+\.[a-z0-9_]+|preset|start_from|task)(?:=([^`]*))?`")
_WORDS = {"true": "True", "false": "False"}


class TrainOptions(TypedDict, total=False):
    """Options of `regard.train` that need no more than a value; None is the default.

    Args:
        columns: Names of the columns to read; None detects them.
        targets: File of target sentences, line by line with the data.
        lang: Language codes, such as ``en-de``.
        label_separator: What is between several labels in one cell, such as ``|``.
        encoding: Encoding of the files, such as ``latin1``.
        drop_overlap: Whether held-out sources that are also in the training data are left out.
        allow_overlap: Whether they are kept.
        horizon: Steps ahead that are forecast; by default the shortest season, or 48 without one,
            and at most a tenth of the longest series.
        known: Names of the columns of series that are known ahead.
        preset: Size of the model: ``tiny``, ``small``, ``base``, or ``auto``, which goes by the
            amount of data (the default).
        minutes: Wall-clock budget; None trains until validation stops improving.
        seed: Seed of everything random; 1 by default.
        device: What computes: cpu, cuda (a GPU; of several, cuda:N), or auto, a GPU where there is
            one (the default).
        precision: float32, bf16, or auto: bf16 where the device computes it fast (the default).
        threads: Threads of the processor, of the whole process; None leaves them unchanged.
        tensorboard: Whether event files of TensorBoard are written, too.
    """

    columns: str | Sequence[str] | None
    targets: str | Path | None
    lang: str | None
    label_separator: str | None
    encoding: str | None
    drop_overlap: bool
    allow_overlap: bool
    horizon: int | None
    known: str | Sequence[str] | None
    preset: str | None
    minutes: float | None
    seed: int | None
    device: str | Device | None
    precision: str | None
    threads: int | None
    tensorboard: bool


def settings_of(options: Mapping[str, object]) -> list[str]:
    """Return options as settings, ``section.key=value`` each; those that are not set are left out.

    Raises:
        ConfigError: An option is unknown, or its value is of another type.

    >>> settings_of({"lang": "en-de", "columns": ["source", "target"], "minutes": None})
    ['data.languages=en-de', 'data.columns=["source","target"]']
    """
    settings, hints = [], get_type_hints(TrainOptions)
    for name, value in options.items():
        if name not in SETTINGS:
            hint = did_you_mean(name, list(SETTINGS))
            listed = ", ".join([*SETTINGS, "threads"])
            raise ConfigError(f"`{name}`: no such option.{hint}  All: {listed}")
        require_type(name, value, hints.get(name, object))
        if value is None or value is False:
            continue
        if isinstance(value, list | tuple):  # in TOML, as a name may have a comma
            text = msgspec.json.encode(value).decode()
        else:
            text = word_of(value) if isinstance(value, bool | int | float) else str(value)
        settings.append(f"{SETTINGS[name]}={text}")
    return settings


@contextmanager
def option_errors(options: Mapping[str, object]) -> Iterator[None]:
    """Put the setting that an error begins with into backticks, where an option has set it.

    So the command line and Python name the option, ``--minutes x``, not ``training.minutes=x``.

    Args:
        options: All options by name; None and False are not set.

    Raises:
        ConfigError: That of the body.
    """
    try:
        yield
    except ConfigError as error:
        setting, _, rest = str(error).partition("=")
        option = options.get(_ARGUMENTS.get(setting, ""))
        value, colon, reason = rest.partition(": ")
        if colon and option is not None and option is not False:
            name = setting.rpartition(".")[2]
            if reason.startswith(f"{name} must be "):
                error.args = (f"`{setting}` {reason.removeprefix(f'{name} ')}",)
            else:
                error.args = (f"`{setting}={value}`: {reason}",)
        raise


@contextmanager
def argument_errors() -> Iterator[None]:
    """Name arguments of Python, `drop_overlap=True`, in errors that name their settings.

    Raises:
        RegardError: That of the body.
    """
    try:
        yield
    except RegardError as error:
        error.args = (argument_text(str(error)),)
        raise


def argument_text(message: str) -> str:
    """Return a message with arguments of Python in place of the settings that they set.

    >>> argument_text("Drop them: `data.drop_overlap=true`;  another: `data.columns=text,NAME`")
    'Drop them: `drop_overlap=True`;  another: `columns="text,NAME"`'
    >>> argument_text("Another `data.encoding`, or `model.has_copy=true`")
    'Another `encoding`, or `model.has_copy=true`'
    >>> argument_text("Separated? `data.label_separator='|'`")
    'Separated? `label_separator="|"`'
    """
    return _IN_BACKTICKS.sub(_argument, message)


def _argument(match: re.Match[str]) -> str:
    """Return a setting in backticks as an argument; one that no argument sets stays as it is."""
    setting, value = match.groups()
    name = _ARGUMENTS.get(setting)
    if name is None or value is None:
        return match[0] if name is None else f"`{name}`"
    with suppress(ValueError):  # a quote that has no end is part of the value
        value = " ".join(shlex.split(value))
    is_number = re.fullmatch(r"-?\d+(\.\d+)?", value) is not None
    return f"`{name}={_WORDS.get(value) or (value if is_number else json.dumps(value))}`"
