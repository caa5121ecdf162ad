"""Learning-rate schedules: a factor on the peak rate by the fraction of the run that is done.

Schedules take progress, 0 at the start of a run and 1 at its end, not a step number, so that a plan
whose end moves keeps a continuous rate that still reaches its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float, float], float]
"""(progress in [0, 1], warm-up fraction in [0, 1)) -> factor in (0, 1]."""

_MIN_FACTOR = 1e-3


def cosine(progress: float, warmup: float) -> float:
    """Return the factor of a linear rise and half a cosine (Loshchilov & Hutter 2017, equation 5).

    >>> [round(cosine(p, 0.1), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.001]
    """
    if progress < warmup:
        return max(_MIN_FACTOR, progress / warmup)
    decayed = min(1.0, (progress - warmup) / (1 - warmup))
    return max(_MIN_FACTOR, 0.5 * (1 + math.cos(math.pi * decayed)))


def linear(progress: float, warmup: float) -> float:
    """Return the factor of a linear rise and a linear fall.

    >>> [round(linear(p, 0.1), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.001]
    """
    if progress < warmup:
        return max(_MIN_FACTOR, progress / warmup)
    return max(_MIN_FACTOR, (1 - progress) / (1 - warmup))


def constant(progress: float, warmup: float) -> float:
    """Return the factor of a linear rise, and 1 afterwards."""
    return max(_MIN_FACTOR, progress / warmup) if progress < warmup else 1.0
