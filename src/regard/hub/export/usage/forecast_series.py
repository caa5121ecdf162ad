"""Quantiles of what follows a series."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MONDAY = np.datetime64("1969-12-29", "s")


def phase_in_month(times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return where times are in their month, 0 to 1."""
    months = times.astype("M8[M]")
    first, after = months.astype("M8[s]"), (months + np.timedelta64(1, "M")).astype("M8[s]")
    return (times - first).astype(int) / (after - first).astype(int)


def phase_in_year(times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return where times are in their year, 0 to 1."""
    years = times.astype("M8[Y]")
    first, after = years.astype("M8[s]"), (years + np.timedelta64(1, "Y")).astype("M8[s]")
    return (times - first).astype(int) / (after - first).astype(int)


PHASES: dict[str, Callable[[NDArray[np.datetime64]], NDArray[np.float64]]] = {
    "minute": lambda times: (times - MONDAY).astype(int) % 60 / 60,
    "hour": lambda times: (times - MONDAY).astype(int) % 3600 / 3600,
    "day": lambda times: (times - MONDAY).astype(int) % 86_400 / 86_400,
    "week": lambda times: (times - MONDAY).astype(int) % 604_800 / 604_800,
    "month": phase_in_month,
    "year": phase_in_year,
}


def fill_missing(values: NDArray[np.float64], seasons: Sequence[int]) -> NDArray[np.float64]:
    """Return values with NaN replaced by the value a season before, else by the last one."""
    filled, present = values.copy(), np.flatnonzero(~np.isnan(values))
    if not len(present):
        return np.zeros_like(values)
    filled[: present[0]] = values[present[0]]
    for index in np.flatnonzero(np.isnan(filled)):
        lag = next((season for season in reversed(seasons) if index >= season), 1)
        filled[index] = filled[index - lag]
    return filled


class Forecaster:
    """Forecasts series with a session and ``config.json`` of a folder."""

    def __init__(self, folder: str, session: Any) -> None:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.settings: dict[str, Any] = config["regard"]
        self.session = session
        self.names = [node.name for node in self.session.get_inputs()]

    def calendar(self, start: str | int) -> NDArray[np.float32]:
        """Return the calendar of the first step of each patch, ``[patches, features]``.

        Args:
            start: Time of the first step that is predicted in ISO form, or the number of its row.
        """
        settings = self.settings
        window, horizon, patch = (settings[name] for name in ("window", "horizon", "patch"))
        steps = np.array([*range(-window, 0, patch), *range(0, horizon, patch)])
        if settings["unit"] == "row":
            rows = int(start) // settings["count"] + steps
            phases = [rows % season / season for season in settings["seasons"]]
        elif settings["unit"] == "month":
            months = np.datetime64(start, "M").astype(int) + steps * settings["count"]
            phases = [months % 12 / 12 for _ in settings["cycles"]]
        else:
            seconds = steps * np.timedelta64(settings["count"], "s")
            times = np.datetime64(start, "s") + seconds
            phases = [PHASES[cycle](times) for cycle in settings["cycles"]]
        powers = [np.zeros((len(steps), 0), np.complex64)]
        for phase, number in zip(phases, settings["num_harmonics"], strict=True):
            point = np.exp(2j * np.pi * phase).astype(np.complex64)
            powers.append(np.cumprod(np.repeat(point[:, None], number, axis=1), axis=1))
        features = np.concatenate(powers, axis=1)
        return np.concatenate([features.real, features.imag], axis=1).astype(np.float32)

    def encode(
        self,
        values: Sequence[float],
        start: str | int,
        known: NDArray | None = None,
        observed: NDArray | None = None,
    ) -> dict[str, NDArray]:
        """Return the inputs of one series, of shape ``[1, window]`` and so on; see `__call__`."""
        settings, seasons = self.settings, self.settings["seasons"]
        window, horizon = settings["window"], settings["horizon"]
        size = min(len(values), window + 2 * max(seasons or [1]))  # of the history that is read
        before = np.full(window, np.nan)
        history = np.concatenate([before, np.asarray(values, np.float64)[len(values) - size :]])
        inputs = {
            "past_values": fill_missing(history, seasons)[-window:],
            "past_observed_mask": ~np.isnan(history[-window:]),
        }
        if "calendar" in self.names:
            inputs["calendar"] = self.calendar(start)
        if "known" in self.names:
            mean, std = np.array(settings["known_mean"]), np.array(settings["known_std"])
            rows = np.zeros((window + horizon, len(mean)), np.float32)
            part = (
                np.asarray(known, np.float64)[len(values) - size :][: size + horizon] - mean
            ) / std
            part = part[max(0, size - window) :]
            first = max(0, window - size)
            rows[first : first + len(part)] = np.nan_to_num(part)
            inputs["known"] = rows
        if "observed" in self.names:
            columns = np.asarray(observed, np.float64)[len(values) - size :].T
            filled = [fill_missing(np.concatenate([before, x]), seasons) for x in columns]
            inputs["observed"] = np.stack(filled, axis=1)[-window:]
        return {name: array[None] for name, array in inputs.items()}

    def __call__(
        self,
        values: Sequence[float],
        start: str | int,
        known: NDArray | None = None,
        observed: NDArray | None = None,
    ) -> dict[str, list[float]]:
        """Return the quantiles of the steps after a series, by their levels.

        Args:
            values: The history, oldest first; NaN where a value is missing.
            start: Time of the first step that is predicted in ISO form, or the number of its row.
            known: Columns that are known ahead, ``[history + horizon, columns]``.
            observed: Columns that are known as far as the history, ``[history, columns]``.
        """
        inputs = self.encode(values, start, known, observed)
        quantiles = np.asarray(self.session.run(["quantiles"], inputs)[0])[0]  # [horizon, levels]
        levels = self.settings["levels"]
        return {f"{level:g}": x.tolist() for level, x in zip(levels, quantiles.T, strict=True)}
