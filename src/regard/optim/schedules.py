"""Learning-rate schedules: a factor on the peak rate by the fraction of the run that is done.

Schedules take progress, 0 at the first step and 1 at the end, not a step number, so that a plan
whose end moves keeps a continuous rate that still reaches its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from regard.errors import ConfigError

if TYPE_CHECKING:
    from torch.optim import Optimizer

Schedule = Callable[[float, float], float]
"""(progress in [0, 1], warm-up fraction in [0, 1)) -> factor in (0, 1]."""

OF_SCHEDULERS = frozenset({"initial_lr", "max_lr", "min_lr", "swa_lr"})
"""Settings of a group that PyTorch's schedulers keep there."""

_MIN_FACTOR = 1e-3


def refuse_unknown_settings(optimizer: Optimizer, group: Mapping[str, Any]) -> None:
    """Refuse settings of a group that would be ignored, such as another optimizer's.

    Args:
        optimizer: Takes the settings that it has defaults of.
        group: Of its parameters.

    Raises:
        ConfigError: There is another one.
    """
    obeyed = {"params", "param_names", *optimizer.defaults}
    if "lr" in optimizer.defaults:
        obeyed |= OF_SCHEDULERS
    unknown = sorted(set(group) - obeyed)
    if unknown:
        raise ConfigError(
            f"{type(optimizer).__name__} has no setting {unknown[0]!r} of a group.  It takes: "
            f"{', '.join(optimizer.defaults)}"
        )


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
