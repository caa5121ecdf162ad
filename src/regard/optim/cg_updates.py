"""Formulas for beta, the factor of the old direction in the new one of conjugate gradient.

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

_ETA = 0.4  # Hager & Zhang 2013, after equation 2.4


@dataclass(frozen=True, slots=True)
class InnerProducts:
    """Inner products before and after a step.

    Args:
        y_pg: y.P g'.
        y_py: y.P y.
        d_y: d.y, above 0.
        d_new: d.g'.
        d_old: d.g, below 0.
        d_d: d.P^-1 d.
        new_square: g'.P g', and
        old_square: g.P g; NaN where no formula uses them (`USE_SQUARES`).
    """

    y_pg: float
    y_py: float
    d_y: float
    d_new: float
    d_old: float
    d_d: float
    new_square: float
    old_square: float


def hager_zhang(products: InnerProducts) -> float:
    """Return (y.P g' - (y.P y) (d.g') / (d.y)) / (d.y), at least 0.4 d.g / d.P^-1 d.

    Hager & Zhang 2013, equation 1.3 with theta = 1, bounded below by equation 2.4.
    """
    beta = (products.y_pg - products.y_py * products.d_new / products.d_y) / products.d_y
    return max(beta, _ETA * products.d_old / products.d_d)


def polak_ribiere(products: InnerProducts) -> float:
    """Compute max(0, y.P g' / g.P g): Polak & Ribiere 1969; Gilbert & Nocedal 1992."""
    return max(0.0, products.y_pg / products.old_square)


def fletcher_reeves(products: InnerProducts) -> float:
    """Compute g'.P g' / g.P g: Fletcher & Reeves 1964."""
    return products.new_square / products.old_square


def hestenes_stiefel(products: InnerProducts) -> float:
    """Compute y.P g' / d.y: Hestenes & Stiefel 1952."""
    return products.y_pg / products.d_y


def dai_yuan(products: InnerProducts) -> float:
    """Compute g'.P g' / d.y: Dai & Yuan 1999."""
    return products.new_square / products.d_y


CG_UPDATES: dict[BetaName, Callable[[InnerProducts], float]] = {
    "hager-zhang": hager_zhang,
    "polak-ribiere+": polak_ribiere,
    "fletcher-reeves": fletcher_reeves,
    "hestenes-stiefel": hestenes_stiefel,
    "dai-yuan": dai_yuan,
}
"""Formulas by name."""

USE_SQUARES = (polak_ribiere, fletcher_reeves, dai_yuan)
"""Formulas with the square of a gradient, g.P g or g'.P g'."""
