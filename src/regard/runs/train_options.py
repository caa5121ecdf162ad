"""Options of training: settings with a short name, the same in Python and at the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import msgspec

from regard.errors import ConfigError, did_you_mean
from regard.settings.values import word_of

if TYPE_CHECKING:  # options are read before PyTorch is needed
    import torch

SETTINGS = {
    "task": "task",
    "columns": "data.columns",
    "targets": "data.targets",
    "valid": "data.valid",
    "test": "data.test",
    "lang": "data.languages",
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


class TrainOptions(TypedDict, total=False):
    """Options of `regard.train` that need no more than a value; None is the default.

    Args:
        columns: Names of the columns to read; None detects them.
        targets: File of target sentences, line by line with the data.
        lang: Language codes, such as ``en-de``.
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
    encoding: str | None
    drop_overlap: bool
    allow_overlap: bool
    horizon: int | None
    known: str | Sequence[str] | None
    preset: str | None
    minutes: float | None
    seed: int | None
    device: str | torch.device | None
    precision: str | None
    threads: int | None
    tensorboard: bool


def settings_of(options: Mapping[str, object]) -> list[str]:
    """Return options as settings, ``section.key=value`` each; those that are not set are left out.

    Raises:
        ConfigError: An option is unknown.

    >>> settings_of({"lang": "en-de", "columns": ["source", "target"], "minutes": None})
    ['data.languages=en-de', 'data.columns=["source","target"]']
    """
    settings = []
    for name, value in options.items():
        if name not in SETTINGS:
            hint = did_you_mean(name, list(SETTINGS))
            listed = ", ".join([*SETTINGS, "threads"])
            raise ConfigError(f"`{name}`: no such option.{hint}  All: {listed}")
        if value is None or value is False:
            continue
        if isinstance(value, list | tuple):  # in TOML, as a name may have a comma
            text = msgspec.json.encode(value).decode()
        else:
            text = word_of(value) if isinstance(value, bool | int | float) else str(value)
        settings.append(f"{SETTINGS[name]}={text}")
    return settings
