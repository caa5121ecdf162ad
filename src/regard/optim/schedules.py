"""Learning-rate schedules: a factor on the peak rate by the share of the run that is done.

Schedules take progress, 0 at the first step and 1 at the end, not a step number, so that a plan
whose end moves keeps a continuous rate that still reaches its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float, float], float]
"""(progress in [0, 1], warm-up share in [0, 1)) -> factor in (0, 1]."""

_LOWEST = 1e-3


def _warm(progress: float, warmup: float) -> float | None:
    return max(_LOWEST, progress / warmup) if progress < warmup else None


def cosine(progress: float, warmup: float) -> float:
    """Rise linearly, fall by half a cosine (Loshchilov & Hutter 2017, equation 5).

    >>> [round(cosine(p, 0.1), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.001]
    """
    rising = _warm(progress, warmup)
    if rising is not None:
        return rising
    remaining = min(1.0, (progress - warmup) / (1 - warmup))
    return max(_LOWEST, 0.5 * (1 + math.cos(math.pi * remaining)))


def linear(progress: float, warmup: float) -> float:
    """Rise linearly, fall linearly.

    >>> [round(linear(p, 0.1), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.001]
    """
    rising = _warm(progress, warmup)
    return max(_LOWEST, (1 - progress) / (1 - warmup)) if rising is None else rising


def constant(progress: float, warmup: float) -> float:
    """Rise linearly, then stay."""
    rising = _warm(progress, warmup)
    return 1.0 if rising is None else rising


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "linear": linear, "constant": constant}
