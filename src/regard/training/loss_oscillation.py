"""Whether a series of losses swings about a level: the periodogram and its test (Fisher 1929).

Mini-batch noise goes up and down as well, but its power is spread over all frequencies. A loss that
swings, as it does where the rate is too high for the curvature (Cohen et al. 2021, "Gradient
Descent on Neural Networks Typically Occurs at the Edge of Stability"), has most of its power in one
narrow band. The test compares shares of the power only, hence knows no unit and no scale.

Source: R. A. Fisher, "Tests of significance in harmonic analysis", Proceedings of the Royal Society
A 125, 1929, with a band in place of one frequency. Cost: O(n log n), some 0.1 ms for 256 losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

LEAST_STEPS = 128  # fewer leave too few frequencies to tell a swing from chance
_LEAST_CYCLES = 6  # a slower one within the window may be a trend, which learning has by itself
_BAND = 0.05  # a swing's period wanders: so much of it to either side counts as the same swing
_LEAST_SHARE = 0.5  # most of what the loss varies by is the swing; correlated noise stays below
_LARGEST_CHANCE = 1e-6  # that noise does so: a run makes up to some 1,000 tests
_LEAST_AMPLITUDE = 0.03  # of the level: smaller swings do no harm
_LEAST_KEPT = 0.8  # amplitude of the second half over that of the first: it does not shrink
_CREST_TO_TROUGH = 2 * math.sqrt(2)  # of a wave, over its root mean square


class Oscillation(msgspec.Struct, frozen=True, kw_only=True):
    """The strongest swing of a series.

    Args:
        share: Of the variance about the trend that it makes up, 0 to 1.
        chance: Bound on the probability that white noise has a share as large, 0 to 1.
        period: Steps of one swing.
        amplitude: Root mean square of the swing, in the unit of the series.
        level: Mean of the series.
        kept: Its strength in the second half over that in the first.
        drift: Distance that the trend covers within the series, in its unit.
    """

    share: float
    chance: float
    period: float
    amplitude: float
    level: float
    kept: float
    drift: float

    @property
    def is_sustained(self) -> bool:
        """Whether the series swings about a level, noticeably, and does not settle."""
        return (
            self.share >= _LEAST_SHARE
            and self.chance <= _LARGEST_CHANCE
            and self.amplitude >= _LEAST_AMPLITUDE * abs(self.level)
            and self.kept >= _LEAST_KEPT
            and self.drift <= _CREST_TO_TROUGH * self.amplitude
        )


def find_oscillation(losses: Sequence[float]) -> Oscillation | None:
    """Find the strongest swing of a series about its straight trend.

    Args:
        losses: One a step, finite, oldest first.

    Returns:
        What was found, or None where there are fewer than 128 losses or they do not vary.
    """
    if len(losses) < LEAST_STEPS:
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
    power[-1] /= 2  # every other bin stands for two frequencies, this one for itself
    first, last = _strongest_band(power[1:])
    share = float(power[first : last + 1].sum() / power[1:].sum())
    return Oscillation(
        share=share,
        chance=_chance(share, num_bins=len(power) - 1, width=last - first + 1),
        period=len(series) / (first + int(power[first : last + 1].argmax())),
        amplitude=math.sqrt(share) * float(rest.std()),
        level=level,
        kept=_kept(spectrum, first, last),
        drift=abs(slope) * (len(series) - 1),
    )


def _strongest_band(power: NDArray[np.float64]) -> tuple[int, int]:
    """Return first and last frequency, in cycles, of the band with most power.

    Args:
        power: Of 1, 2, 3, ... cycles within the series.
    """
    total = np.concatenate([[0.0], np.cumsum(power)])
    bands = []
    for cycles in range(_LEAST_CYCLES, len(power) + 1):
        half = max(1, int(_BAND * cycles))
        first, last = max(_LEAST_CYCLES, cycles - half), min(len(power), cycles + half)
        bands.append((float(total[last] - total[first - 1]), -first, -last))
    _, first, last = max(bands)
    return -first, -last


def _chance(share: float, *, num_bins: int, width: int) -> float:
    """Bound the probability that some band of white noise holds at least `share` of the power.

    Powers of white noise are independent and exponential, so the share of `width` bins of
    `num_bins` has the distribution Beta(width, num_bins - width), whose tail is a binomial sum.
    """
    trials = num_bins - 1
    tail = sum(
        math.comb(trials, hits) * share**hits * (1 - share) ** (trials - hits)
        for hits in range(width)
    )
    return min(1.0, num_bins * tail)


def _kept(spectrum: NDArray[np.complex128], first: int, last: int) -> float:
    """Compare the strength of a band in the second half of the series with that in the first."""
    band = np.zeros_like(spectrum)
    band[first : last + 1] = spectrum[first : last + 1]
    halves = np.split(np.fft.irfft(band), 2)
    before, after = (float(np.sqrt(np.mean(half**2))) for half in halves)
    return after / before if before else math.inf
