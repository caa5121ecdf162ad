"""Windows of series: a history and the steps after it, and batches of them.

A window is named by its series and its origin, the index of the first step that is predicted.
Missing values, and those before the first of a short history, are imputed from earlier values only:
by the value a season before, else the last one. Cost: the series once, and a copy of the window for
every row of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import LengthBatches
from regard.data.time_series import TimeIndex, TimeSeries, TimeStep
from regard.models import PatchTstConfig
from regard.models.patch_tst.model import SeriesInputs

EPOCH_WINDOWS = 8192
"""Maximum number of windows of an epoch, drawn from all."""
_HARMONICS = 24  # of each cycle of the calendar, at most: the shortest has two steps
_FEWEST_CYCLES = 3  # periods of a cycle in the training data, to learn from it
_FEWEST_STEPS = 3  # of a cycle: a shorter one cannot be seen on this grid
_CONSTANT = 1e-3  # of the deviation of a series: windows that vary less are not trained on


class SeriesWindowBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of windows.

    Args:
        values: History, imputed where missing, float64 ``[batch, window]``.
        is_missing: Bool, ``[batch, window]``.
        calendar: Calendar of the first step of each patch, ``[batch, num_patches, num_calendar]``.
        known: Mean 0 and variance 1, ``[batch, window + horizon, num_known]``.
        observed: Float64 ``[batch, window, num_observed]``.
        targets: The steps after the history, NaN where missing, float64 ``[batch, horizon]``.
    """

    values: Tensor
    is_missing: Tensor
    calendar: Tensor
    known: Tensor
    observed: Tensor
    targets: Tensor

    @property
    def inputs(self) -> SeriesInputs:
        """What the model reads, in the order of its arguments."""
        return SeriesInputs(self.values, self.is_missing, self.calendar, self.known, self.observed)


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """Which cycles of the calendar a model reads.

    Args:
        step: Distance of two values.
        cycles: Names of cycles of `TimeStep.cycles`.
        seasons: Seasons of the series, in steps; they are the cycles of series without a calendar,
            whose rows are counted.
    """

    step: TimeStep
    cycles: tuple[str, ...]
    seasons: tuple[int, ...]

    @property
    def counted(self) -> tuple[int, ...]:
        """Seasons of series without a calendar."""
        return self.seasons if self.step.unit == "row" else ()

    @property
    def num_features(self) -> int:
        """Features of a step."""
        return 2 * sum(self.num_harmonics)

    @property
    def num_harmonics(self) -> list[int]:
        """Number of harmonics of each cycle, and of each season without a calendar."""
        lengths = [*(self.step.cycles[name] for name in self.cycles), *self.counted]
        return [min(_HARMONICS, int(length // 2)) for length in lengths]

    def phases(self, index: TimeIndex, first: int, count: int) -> NDArray[np.complex64]:
        """Return where steps are in each cycle, as points of the unit circle, ``[count, cycles]``.

        Args:
            index: Times of a series.
            first: Index of the first step; it may be before the first value.
            count: Number of steps.
        """
        if self.counted:
            begin = int(index.start) // self.step.count
            steps = begin + first + np.arange(count)
            angles = [2 * np.pi * (steps % season) / season for season in self.counted]
            return np.exp(1j * np.stack(angles, axis=1)).astype(np.complex64)
        sines, cosines = index.calendar(first, count).reshape(count, -1, 2).transpose(2, 0, 1)
        columns = [list(self.step.cycles).index(name) for name in self.cycles]
        return (cosines + 1j * sines)[:, columns].astype(np.complex64)


def repeated_cycles(step: TimeStep, num_steps: int) -> tuple[str, ...]:
    """Return the cycles of the calendar that a number of training steps has several times."""
    longest = num_steps / _FEWEST_CYCLES
    return tuple(name for name, size in step.cycles.items() if _FEWEST_STEPS <= size <= longest)


def harmonics(phases: NDArray[np.complex64], num_harmonics: Sequence[int]) -> NDArray[np.float32]:
    """Return cosine and sine of the multiples of phases.

    Args:
        phases: Points of the unit circle, ``[..., cycles]``.
        num_harmonics: Number of multiples of each cycle.

    Returns:
        ``[..., 2 * sum(num_harmonics)]``.
    """
    columns = [
        np.cumprod(np.repeat(phases[..., cycle, None], number, axis=-1), axis=-1)
        for cycle, number in enumerate(num_harmonics)
    ]
    powers = np.concatenate(columns or [phases], axis=-1)
    return np.concatenate([powers.real, powers.imag], axis=-1).astype(np.float32)


def fill_missing(values: NDArray[np.float64], seasons: Sequence[int]) -> NDArray[np.float64]:
    """Return a series whose missing values are imputed from earlier values alone.

    That is the value a season before, of the longest season first, else the last value; before
    the first value it is the first.

    Args:
        values: ``[length]``, NaN where missing.
        seasons: Lengths in steps.

    Returns:
        ``[length]``; zeros where no value is known.

    >>> fill_missing(np.array([np.nan, 1.0, 2.0, np.nan, np.nan]), [2])
    array([1., 1., 2., 1., 2.])
    """
    filled = values.copy()
    missing = np.flatnonzero(np.isnan(values))
    present = np.flatnonzero(~np.isnan(values))
    if not len(present):
        return np.zeros_like(values)
    filled[: present[0]] = values[present[0]]
    for index in missing[missing > present[0]]:
        lag = next((season for season in reversed(list(seasons)) if index >= season), 1)
        filled[index] = filled[index - lag]
    return filled


class SeriesWindows:
    """Windows of several series, for batches.

    Args:
        series: The series; origins may be up to the end of each.
        config: Sizes of the model.
        calendar: Its cycles.
        seasons: Seasons of the series, in steps, for missing values.
        known_scale: Mean and deviation of each column that is known ahead, ``[2, num_known]``.
        last: Only these last values of each series are kept, and origins count from the first of
            them; None keeps all.
    """

    def __init__(
        self,
        series: TimeSeries,
        config: PatchTstConfig,
        calendar: Calendar,
        seasons: Sequence[int],
        known_scale: NDArray[np.float64],
        last: int | None = None,
    ) -> None:
        starts = [0 if last is None else max(0, len(values) - last) for values in series.values]
        self.config = config
        self.lengths = [
            len(values) - start for values, start in zip(series.values, starts, strict=True)
        ]
        self._num_harmonics = calendar.num_harmonics
        window, horizon = config.window, config.horizon
        mean, std = known_scale
        self._values, self._filled, self._phases, self._known, self._observed = [], [], [], [], []
        for row, start in enumerate(starts):
            values = series.values[row][start:]
            before, after = np.full(window, np.nan), np.full(horizon, np.nan)
            padded = np.concatenate([before, values, after])
            self._values.append(padded)
            self._filled.append(fill_missing(padded[:-horizon], seasons))
            count = window + len(values) + horizon
            self._phases.append(calendar.phases(series.indices[row], start - window, count))
            ahead = np.zeros((count, config.num_known), np.float32)
            rows = (series.known[row][start:][: len(values) + horizon] - mean) / std
            ahead[window : window + len(rows)] = np.nan_to_num(rows)
            self._known.append(ahead)
            observed = np.zeros((window + len(values), config.num_observed))  # [steps, columns]
            for column, numbers in enumerate(series.observed[row][start:].T):
                observed[:, column] = fill_missing(np.concatenate([before, numbers]), seasons)
            self._observed.append(observed)

    def batch(self, rows: NDArray[np.int64], origins: NDArray[np.int64]) -> SeriesWindowBatch:
        """Build the batch of some windows.

        Args:
            rows: Series of each, ``[batch]``.
            origins: Index of the first step that is predicted, ``[batch]``.

        Returns:
            The windows, ``[batch, window]``, with their columns and targets, ``[batch, horizon]``.
        """
        window, horizon = self.config.window, self.config.horizon
        pairs = list(zip(rows.tolist(), origins.tolist(), strict=True))

        def cut(arrays: Sequence[NDArray], size: int, shift: int = 0) -> NDArray:
            return np.stack(
                [arrays[row][origin + shift : origin + shift + size] for row, origin in pairs]
            )  # [batch, size] or [batch, size, columns]

        values = cut(self._values, window + horizon)  # [batch, steps]
        patch = self.config.patch
        first_steps = [*range(0, window, patch), *range(window, window + horizon, patch)]
        phases = np.stack([self._phases[row][np.add(first_steps, origin)] for row, origin in pairs])
        return SeriesWindowBatch(
            values=torch.from_numpy(cut(self._filled, window)),
            is_missing=torch.from_numpy(np.isnan(values[:, :window])),
            calendar=torch.from_numpy(harmonics(phases, self._num_harmonics)),
            known=torch.from_numpy(cut(self._known, window + horizon)),
            observed=torch.from_numpy(cut(self._observed, window)),
            targets=torch.from_numpy(values[:, window:].copy()),
        )

    def imputed_targets(
        self, rows: NDArray[np.int64], origins: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the steps after the history of windows; see `ForecastBatches`."""
        begins = origins + self.config.window
        pairs = list(zip(rows.tolist(), begins.tolist(), strict=True))
        horizon = self.config.horizon
        targets = np.stack(
            [self._filled[row][begin : begin + horizon] for row, begin in pairs]
        )  # [batch, horizon]
        actual = np.stack([self._values[row][begin : begin + horizon] for row, begin in pairs])
        targets[np.isnan(actual).mean(1) > 1 / 2] = np.nan
        return targets

    def varies(self, row: int, origins: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether the scaled part of each history varies, and some target is known.

        A constant history has no scale to measure an error by.

        Args:
            row: The series.
            origins: ``[windows]``.
        """
        config = self.config
        values = self._values[row]
        size = min(config.scaled_steps, config.window)
        filled = np.nan_to_num(values - np.nanmean(values)) if self.lengths[row] else values * 0
        counts = np.cumsum(np.append(0, ~np.isnan(values)))
        sums, squares = (np.cumsum(np.append(0, x)) for x in (filled, filled**2))
        ends = origins + config.window
        number = np.maximum(1, counts[ends] - counts[ends - size])
        mean = (sums[ends] - sums[ends - size]) / number
        variance = (squares[ends] - squares[ends - size]) / number - mean**2
        has_target = counts[ends + config.horizon] > counts[ends]
        return (variance > (_CONSTANT * np.nanstd(values)) ** 2) & has_target


class ForecastBatches(LengthBatches):
    """Batches of windows, in a fresh order every epoch.

    Args:
        windows: Windows of all series.
        rows: Series of each window, ``[windows]``.
        origins: Index of the first step that each window predicts, ``[windows]``.
        batch_tokens: Maximum number of patches in a batch.
        seed: Seed of the order.
        most: Maximum number of windows of an epoch, drawn from all.
    """

    def __init__(
        self,
        windows: SeriesWindows,
        rows: NDArray[np.int64],
        origins: NDArray[np.int64],
        *,
        batch_tokens: int,
        seed: int = 0,
        most: int = EPOCH_WINDOWS,
    ) -> None:
        lengths = np.full(len(rows), windows.config.num_patches, dtype=np.int64)
        super().__init__(lengths, batch_tokens=batch_tokens, seed=seed)
        self.windows, self.rows, self.origins = windows, rows, origins
        self._num_windows = min(len(rows), most)

    @property
    def num_tokens(self) -> int:
        """Patches of an epoch."""
        return self._num_windows * int(self.lengths[0])

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the windows of every batch of an epoch; the same arguments give the same order."""
        generator = np.random.default_rng([self.seed, epoch])
        return self._cut(generator.permutation(len(self.rows))[: self._num_windows])

    def in_sequence(self) -> list[NDArray[np.int64]]:
        """Return the windows of batches, evenly spread over the data, not shuffled."""
        spread = np.linspace(0, len(self.rows) - 1, self._num_windows)
        return self._cut(spread.round().astype(np.int64))

    def imputed_targets(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the steps after the history of some windows, imputed where missing.

        Args:
            rows: The windows, ``[batch]``.

        Returns:
            ``[batch, horizon]``; NaN throughout where more are missing than known.
        """
        return self.windows.imputed_targets(self.rows[rows], self.origins[rows])

    def batch(self, rows: NDArray[np.int64]) -> SeriesWindowBatch:
        """Build the batch of some windows, ``[batch]``."""
        return self.windows.batch(self.rows[rows], self.origins[rows])
