"""The formulas for beta, the share of the old direction in the new one of conjugate gradient.

In the notation of `conjugate_gradient`: g the gradient before the step, g' after it, y = g' - g, d
the direction, P the preconditioner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BetaName = Literal[
    "hager-zhang", "polak-ribiere+", "fletcher-reeves", "hestenes-stiefel", "dai-yuan"
]

_LEAST = 0.4  # eta of Hager & Zhang 2013


@dataclass(frozen=True, slots=True)
class Products:
    """Inner products before and after a step.

    Args:
        y_pg: y.P g'.
        y_py: y.P y.
        d_y: d.y, above 0.
        d_new: d.g'.
        d_old: d.g, below 0.
        d_d: d.P^-1 d.
        new_size: g'.P g', and
        old_size: g.P g; not a number where nothing uses them (`USE_SIZES`).
    """

    y_pg: float
    y_py: float
    d_y: float
    d_new: float
    d_old: float
    d_d: float
    new_size: float
    old_size: float


def hager_zhang(of: Products) -> float:
    """Hager & Zhang 2013, equation 1.3 with theta = 1, bounded below by equation 2.4."""
    beta = (of.y_pg - of.y_py * of.d_new / of.d_y) / of.d_y
    return max(beta, _LEAST * of.d_old / of.d_d)


def polak_ribiere(of: Products) -> float:
    """Polak & Ribiere 1969, not below 0 (Gilbert & Nocedal 1992)."""
    return max(0.0, of.y_pg / of.old_size)


def fletcher_reeves(of: Products) -> float:
    """Fletcher & Reeves 1964."""
    return of.new_size / of.old_size


def hestenes_stiefel(of: Products) -> float:
    """Hestenes & Stiefel 1952."""
    return of.y_pg / of.d_y


def dai_yuan(of: Products) -> float:
    """Dai & Yuan 1999."""
    return of.new_size / of.d_y


BETAS: dict[str, Callable[[Products], float]] = {
    "hager-zhang": hager_zhang,
    "polak-ribiere+": polak_ribiere,
    "fletcher-reeves": fletcher_reeves,
    "hestenes-stiefel": hestenes_stiefel,
    "dai-yuan": dai_yuan,
}

USE_SIZES = (polak_ribiere, fletcher_reeves, dai_yuan)
"""Formulas in which the size of a gradient stands."""
