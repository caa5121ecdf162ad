"""The seasons of series: lengths at which their shape repeats, such as 48 half hours and a week.

A season is confirmed by prediction: the trend is taken out by a moving average over one season
(classical decomposition: Hyndman and Athanasopoulos 2021, section 3.4), each cycle is predicted by
the mean of the other cycles, and that must explain more of the variance than it does of noise or of
a random walk. Lengths of the calendar are tried first, and else those at which the autocorrelation
has a peak. Cost: O(n log n) for each of some series, and O(n) for each length.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from regard.data.time_series import MONTHS, SECONDS, TimeStep

_MAX_SEASONS = 2
_MAX_SERIES = 40  # by which seasons are found
_MAX_LENGTH = 50_000  # last values of a series by which they are found
_MIN_EXPLAINED = 0.05  # fraction of the variance that many other cycles predict
_MORE_OF_FEW = 0.6  # divided by the number of cycles: what noise and random walks explain by chance
_MIN_EXPLAINED_FREE = 0.3  # at lengths that the calendar does not propose, which are many
_MORE_OF_SHORT = 2.0  # divided by the root of the length of the series
_FEW_SERIES = 0.25  # of the series, which must have a season clearly where most do not have it
_FEW_CYCLES = 3
_NUM_PEAKS = 6  # of the autocorrelation that are tried
_NEAR_BEST = 0.9  # of what the best length explains, which a part of it must explain
_NEAR_PEAK = 0.6  # the same of a part at which the autocorrelation has a peak
_MAX_PART = 3  # a peak of the autocorrelation may be at a multiple of the season
_ROUNDING = 1e-9  # of the largest value
_MIN_SIZE = 5e-3  # of a season, in changes of the trend over one season
_CLIP = 5.0  # robust standard deviations at which the residual of the trend is cut
_MAD_TO_STD = 1.4826
_MAX_MISSING = 0.5  # fraction of the values of a series


def find_seasons(values: Sequence[NDArray[np.float64]], step: TimeStep) -> tuple[int, ...]:
    """Return the lengths of the seasons of some series.

    A season counts that most series have, or that a quarter of them has clearly: next to a column
    of sales, one of noise does not hide their week.

    Args:
        values: Values of each series, ``[length]``, NaN where one is missing.
        step: Distance of two values.

    Returns:
        Lengths in steps, shortest first, at most two; none where nothing repeats.
    """
    filled = _usable(values)
    seasons: list[int] = []
    for length in calendar_seasons(step):
        if len(seasons) < _MAX_SEASONS and _is_season(filled, length):
            seasons.append(length)
            filled = [_without_season(series, length) for series in filled]
    return tuple(seasons) or _strongest_season(filled)


def _usable(values: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Return the last values of some series that vary, ``[length]``, without missing ones."""
    filled = [
        _interpolated(series[-_MAX_LENGTH:])
        for series in values
        if len(series) > 3 and np.isnan(series).mean() <= _MAX_MISSING
    ]
    filled = [series for series in filled if np.ptp(series) > 0]
    num_series = min(len(filled), _MAX_SERIES)
    return [filled[len(filled) * i // num_series] for i in range(num_series)]


def calendar_seasons(step: TimeStep) -> tuple[int, ...]:
    """Return the numbers of steps in an hour, a day, a week and a year, where they are whole.

    A year counts for steps of days and longer, and has 365 days and 52 weeks.

    >>> calendar_seasons(TimeStep(count=30, unit="minute")), calendar_seasons(TimeStep(unit="day"))
    ((2, 48, 336), (7, 365))
    """
    if step.unit in MONTHS:
        length, cycles = step.count * MONTHS[step.unit], [12]
    elif step.seconds is None:
        return ()
    else:
        length, cycles = step.seconds, [SECONDS["hour"], SECONDS["day"], SECONDS["week"]]
        if length >= SECONDS["day"]:
            cycles.append(365 * SECONDS["day"] // length * length)
    return tuple(cycle // length for cycle in cycles if cycle > length and cycle % length == 0)


def _interpolated(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with missing ones on the line between their neighbours."""
    is_missing = np.isnan(values)
    if not is_missing.any():
        return values.astype(np.float64)
    index = np.arange(len(values))
    return np.interp(index, index[~is_missing], values[~is_missing])


def _detrended(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return a series without its moving average over one season, and with outliers cut.

    The ends, half a season each, have no average and are left out. A series of less than three
    seasons keeps them: its trend is a line.
    """
    if len(values) < _FEW_CYCLES * length:
        index = np.arange(len(values))
        return values - np.polyval(np.polyfit(index, values, 1), index)
    sums = np.concatenate([[0.0], np.cumsum(values - values.mean())])
    trend = (sums[length:] - sums[:-length]) / length + values.mean()  # of values i .. i + length
    if length % 2 == 0:
        trend = (trend[1:] + trend[:-1]) / 2
    half = length // 2
    rest = values[half : len(values) - half] - trend
    middle = float(np.median(rest))
    spread = _MAD_TO_STD * float(np.median(np.abs(rest - middle)))
    return np.clip(rest, middle - _CLIP * spread, middle + _CLIP * spread) if spread else rest


def _cycles(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return the last whole cycles of a series without trend, ``[cycles, length]``, of mean 0."""
    rest = _detrended(values, length)
    count = len(rest) // length
    cycles = rest[len(rest) - count * length :].reshape(count, length)  # [cycles, length]
    return cycles - cycles.mean(axis=1, keepdims=True)


class _Explained(NamedTuple):
    """What other cycles predict of a cycle.

    Args:
        share: Fraction of the variance: negative for noise, 1 where all cycles are equal.
        num_cycles: Number of cycles.
    """

    share: float
    num_cycles: int


def _explained(values: NDArray[np.float64], length: int) -> _Explained | None:
    """Return what other cycles predict of the variance of each cycle.

    It is None where there are fewer than two cycles, or they are too small to be more than rounding
    or the curve of a smooth trend.
    """
    if len(values) < 2 * length:
        return None
    cycles = _cycles(values, length)
    count = len(cycles)
    change = float(np.median(np.abs(values[length:] - values[:-length])))
    size = float(np.sqrt(np.square(cycles).mean()))
    if size <= max(_MIN_SIZE * change, _ROUNDING * float(np.abs(values).max())):
        return None
    other_means = (cycles.sum(axis=0) - cycles) / (count - 1)  # [cycles, length]
    share = 1 - float(np.square(cycles - other_means).sum()) / float(np.square(cycles).sum())
    return _Explained(share, count)


def _is_season(series: Sequence[NDArray[np.float64]], length: int) -> bool:
    """Return whether the series that are long enough repeat at a length of the calendar."""
    long_enough = [values for values in series if len(values) >= 2 * length]
    results = [(_explained(values, length), len(values)) for values in long_enough]
    likely = [(result, num_values) for result, num_values in results if _is_likely(result)]
    num_clear = sum(result.share >= _clear_share(num_values) for result, num_values in likely)
    return _is_enough(len(likely), num_clear, len(long_enough))


def _is_likely(result: _Explained | None) -> TypeGuard[_Explained]:
    """Return whether a season explains more of a series than noise and random walks do."""
    if result is None:
        return False
    return result.share >= _MIN_EXPLAINED + _MORE_OF_FEW / result.num_cycles


def _clear_share(num_values: int) -> float:
    """Return what a season explains of a series at least where chance would not, in many tries."""
    return _MIN_EXPLAINED_FREE + _MORE_OF_SHORT / num_values**0.5


def _is_enough(num_likely: int, num_clear: int, num_series: int) -> bool:
    """Return whether enough series have a season, likely or clearly, for it to count for all."""
    return 2 * num_likely > num_series or num_clear >= max(1, _FEW_SERIES * num_series)


def count_seasonal(values: Sequence[NDArray[np.float64]], length: int) -> tuple[int, int]:
    """Count the series that repeat at a length.

    Args:
        values: Values of each series, ``[length]``, NaN where one is missing.
        length: Of the season, in steps.

    Returns:
        Their number, and how many were looked at: those that vary, at most 40 of them.
    """
    series = _usable(values)
    return sum(_is_likely(_explained(values, length)) for values in series), len(series)


def _without_season(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return a series without the mean of its cycles."""
    if len(values) < 2 * length:
        return values
    shape = _cycles(values, length).mean(axis=0)  # mean of [cycles, length]
    has_ends = len(values) < _FEW_CYCLES * length
    end = len(values) if has_ends else len(values) - length // 2  # of the last whole cycle
    phase = (np.arange(len(values)) - end) % length
    return values - shape[phase]


def _strongest_season(series: Sequence[NDArray[np.float64]]) -> tuple[int, ...]:
    """Return the length, not proposed by the calendar, at which the series repeat most."""
    shares: defaultdict[int, float] = defaultdict(float)  # summed over series
    num_clear: Counter[int] = Counter()  # of series
    num_peaks: Counter[int] = Counter()
    for values in series:
        least = _clear_share(len(values))
        peaks = _peaks(values)
        num_peaks.update(peaks)
        for length, share in _shares_of_parts(values, peaks):
            shares[length] += max(0.0, share)
            num_clear[length] += share >= least
    clear = [length for length, count in num_clear.items() if _is_enough(0, count, len(series))]
    if not clear:
        return ()
    best = max(clear, key=shares.__getitem__)
    return (_shortest_part(best, shares, num_peaks),)


def _shortest_part(best: int, shares: Mapping[int, float], num_peaks: Counter[int]) -> int:
    """Return the shortest length of which another is a multiple, and that is a season as well.

    Args:
        best: The other length.
        shares: What each length explains.
        num_peaks: Number of series with a peak at a length, which may explain less.
    """
    return min(
        length
        for length, share in shares.items()
        if share >= shares[best] * (_NEAR_PEAK if num_peaks[length] else _NEAR_BEST)
        and abs(best - length * round(best / length)) <= round(best / length)
    )


def _shares_of_parts(
    values: NDArray[np.float64], peaks: Collection[int]
) -> Iterator[tuple[int, float]]:
    """Yield peaks and their parts, and what other cycles of such a length explain."""
    parts = {length // part for length in peaks for part in range(1, _MAX_PART + 1)}
    for length in parts - {0, 1}:
        result = _explained(values, length)
        if result is not None and result.num_cycles >= _FEW_CYCLES:
            yield length, result.share


def _peaks(values: NDArray[np.float64]) -> set[int]:
    """Return lengths next to which the autocorrelation of a series without a line is highest."""
    index = np.arange(len(values))
    rest = values - np.polyval(np.polyfit(index, values, 1), index)
    size = 2 ** int(np.ceil(np.log2(2 * len(rest))))
    spectrum = np.abs(np.fft.rfft(rest, size)) ** 2
    correlation = np.fft.irfft(spectrum, size)[: len(rest) // _FEW_CYCLES + 2]
    inner = correlation[1:-1]
    is_peak = (inner > correlation[:-2]) & (inner >= correlation[2:]) & (inner > 0)
    lags = np.flatnonzero(is_peak) + 1
    best = lags[np.argsort(-correlation[lags])][:_NUM_PEAKS]
    return {int(lag) + offset for lag in best if lag > 1 for offset in (-1, 0, 1)}
