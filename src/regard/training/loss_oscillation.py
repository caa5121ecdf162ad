"""Detection of a loss that oscillates about a level: the periodogram and its test (Fisher 1929).

Mini-batch noise goes up and down as well, but its power is spread over all frequencies. A loss that
oscillates, as it does where the rate is too high for the curvature (Cohen et al. 2021, "Gradient
Descent on Neural Networks Typically Occurs at the Edge of Stability"), has most of its power in one
narrow band. The test compares fractions of the power only, so that the unit does not matter.

Source: R. A. Fisher, "Tests of significance in harmonic analysis", Proceedings of the Royal Society
A 125, 1929, with a band in place of one frequency. Cost: O(n log n), about 0.1 ms for 256 losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

_MIN_STEPS = 128  # fewer leave too few frequencies to separate it from chance
_MIN_CYCLES = 6  # a slower one within the window may be a trend, which learning has by itself
_BAND = 0.05  # the period varies: frequencies this much higher or lower belong to the same band
_MIN_FRACTION = 0.5  # of the variance; correlated noise stays below
_MAX_CHANCE = 1e-6  # that noise does so: a run makes up to some 1,000 tests
_MIN_AMPLITUDE = 0.03  # of the level: smaller oscillations do no harm
_MIN_GROWTH = 0.8  # amplitude of the second half over that of the first: it does not shrink
_CREST_TO_TROUGH = 2 * math.sqrt(2)  # of a wave, over its root mean square


class Oscillation(msgspec.Struct, frozen=True, kw_only=True):
    """The strongest oscillation of a series.

    Args:
        fraction: Of the variance about the trend, 0 to 1.
        chance: Bound on the probability that white noise has a fraction as large, 0 to 1.
        period: Steps.
        amplitude: Root mean square, in the unit of the series.
        level: Mean of the series.
        growth: Its strength in the second half over that in the first.
        drift: Distance that the trend covers within the series, in its unit.
        num_steps: Length of the series.
    """

    fraction: float
    chance: float
    period: float
    amplitude: float
    level: float
    growth: float
    drift: float
    num_steps: int

    @property
    def is_sustained(self) -> bool:
        """Whether the series oscillates about a level, noticeably, and does not settle."""
        return (
            self.fraction >= _MIN_FRACTION
            and self.chance <= _MAX_CHANCE
            and self.amplitude >= _MIN_AMPLITUDE * abs(self.level)
            and self.growth >= _MIN_GROWTH
            and self.drift <= _CREST_TO_TROUGH * self.amplitude
        )


def find_oscillation(losses: Sequence[float]) -> Oscillation | None:
    """Return the strongest oscillation of a series about its straight trend.

    Args:
        losses: One a step, finite, oldest first.

    Returns:
        The oscillation, or None where there are fewer than 128 losses or they do not vary.
    """
    if len(losses) < _MIN_STEPS:
        return None
    series = np.asarray(losses[len(losses) % 2 :], dtype=np.float64)  # even: the last bin is 1/2
    steps = np.arange(len(series)) - (len(series) - 1) / 2
    level = float(series.mean())
    slope = float(steps @ series / (steps @ steps))
    rest = series - level - slope * steps
    if not rest.std() > 1e-12 * abs(level):
        return None
    spectrum = np.fft.rfft(rest)
    power = np.abs(spectrum) ** 2
    power[-1] /= 2  # every other bin holds two frequencies, this one only one
    first, last = _strongest_band(power[1:])
    width, num_bins = last - first + 1, len(power) - 1
    fraction = float(power[first : last + 1].sum() / power[1:].sum())
    # Powers of white noise are independent and exponential, so the fraction of `width` bins has the
    # distribution Beta(width, num_bins - width), whose tail is a binomial sum.
    trials = num_bins - 1
    tail = sum(
        math.comb(trials, hits) * fraction**hits * (1 - fraction) ** (trials - hits)
        for hits in range(width)
    )
    band = np.zeros_like(spectrum)
    band[first : last + 1] = spectrum[first : last + 1]
    halves = np.split(np.fft.irfft(band), 2)
    before, after = (float(np.sqrt(np.mean(half**2))) for half in halves)
    return Oscillation(
        fraction=fraction,
        chance=min(1.0, num_bins * tail),
        period=len(series) / (first + int(power[first : last + 1].argmax())),
        amplitude=math.sqrt(fraction) * float(rest.std()),
        level=level,
        growth=after / before if before else math.inf,
        drift=abs(slope) * (len(series) - 1),
        num_steps=len(series),
    )


def amplitude_at(series: Sequence[float], period: float) -> float:
    """Return how strongly a series oscillates with a period, about its straight trend.

    Args:
        series: One number a step, finite, oldest first; 4 or more.
        period: Steps, 2 or more.

    Returns:
        Root mean square in the band of frequencies around the period, in the unit of the series.
    """
    values = np.asarray(series, dtype=np.float64)
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    slope = float(steps @ values / (steps @ steps))
    power = np.abs(np.fft.rfft(values - values.mean() - slope * steps)) ** 2
    power[1 : (len(values) + 1) // 2] *= 2  # every other bin holds two frequencies
    cycles = len(values) / period
    half = max(1, int(_BAND * cycles))
    band = power[max(1, round(cycles) - half) : round(cycles) + half + 1]
    return float(np.sqrt(band.sum())) / len(values)


def _strongest_band(power: NDArray[np.float64]) -> tuple[int, int]:
    """Return first and last frequency, in cycles, of the band with most power.

    Args:
        power: Of 1, 2, 3, ... cycles within the series.

    Returns:
        The two, both in the band.
    """
    total = np.concatenate([[0.0], np.cumsum(power)])
    bands = []
    for cycles in range(_MIN_CYCLES, len(power) + 1):
        half = max(1, int(_BAND * cycles))
        first, last = max(_MIN_CYCLES, cycles - half), min(len(power), cycles + half)
        bands.append((float(total[last] - total[first - 1]), -first, -last))
    _, first, last = max(bands)
    return -first, -last
