"""How the influence of training rows is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from regard.option_checks import require_number, require_whole

_NUM_ROWS = 10
# Of the largest eigenvalue; docs/experiments.md has what other fractions gave.
_DAMPING = 0.004
_MOST_PRODUCTS = 10
_PRODUCT_TOKENS = 1 << 15

RowProgress = Callable[[str, int, int], None]
"""Hears of a long computation: its name, the rows computed so far, and the number of all rows."""


@dataclass(frozen=True)
class InfluenceOptions:
    """How influence is computed.

    Args:
        num_rows: Rows of each kind, helpful and harmful, that are listed.
        num_retrainings: Trainings of each kind that check the influence, see
            `regard.explain.influence.retraining`; 0 is none.
        damping: lambda as a fraction of the largest eigenvalue of the curvature, above 0.
        most_products: Products with the curvature, at most, after those for this eigenvalue.
        product_tokens: Tokens of the evenly spaced batches that a product is taken over, about.

    Raises:
        ConfigError: A number is out of range.
    """

    num_rows: int = _NUM_ROWS
    num_retrainings: int = 0
    damping: float = _DAMPING
    most_products: int = _MOST_PRODUCTS
    product_tokens: int = _PRODUCT_TOKENS

    def __post_init__(self) -> None:
        for name in ("num_rows", "most_products", "product_tokens"):
            require_whole(name, getattr(self, name), 1)
        require_whole("num_retrainings", self.num_retrainings, 0)
        require_number("damping", self.damping, "above 0", lambda damping: damping > 0)


DEFAULT_OPTIONS = InfluenceOptions()
