"""The inner products by which a method with a line search decides about its next direction."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from regard.optim.flat_parameters import FlatParameters
from regard.optim.one_pass import in_one_pass

_PAIRS = {
    "slope": ("direction", "new"),
    "old_slope": ("direction", "old"),
    "d_d": ("direction", "direction"),
    "d_y": ("direction", "change"),
    "y_y": ("change", "change"),
    "y_new": ("change", "new"),
    "new_square": ("new", "new"),
    "old_square": ("old", "old"),
}
"""Two vectors by the name of their product; y is the change of the gradient, d the direction."""


class StepProducts:
    """Inner products of a step, scalars by name, and "norm", the largest entry of a new gradient.

    Each is computed when it is asked for; on a GPU all of them in one pass (`one_pass.py`).

    Args:
        flat: The parameters that moved.
        old: Gradient at the start of the step, ``[n]``.
        new: Gradient at its end, ``[n]``.
        direction: Of the step, ``[n]``.
        out: Receives the change of the gradient, ``[n]``; it may be `old`, which is then lost. None
            takes a new vector.
    """

    def __init__(
        self,
        flat: FlatParameters,
        old: Tensor,
        new: Tensor,
        direction: Tensor,
        out: Tensor | None = None,
    ) -> None:
        self._flat, self._out = flat, out
        self.old, self.new, self.direction = old, new, direction
        self._computed: dict[str, Tensor] = {}
        if flat.waits:
            self._computed |= in_one_pass(_compute_all, old, new, direction) or {}

    def __getitem__(self, name: str) -> Tensor:
        """Return a scalar that is not read, in float64, or the norm in the type of the vectors."""
        if name not in self._computed:
            self._computed[name] = self._compute(name)
        return self._computed[name]

    @cached_property
    def change(self) -> Tensor:
        """The change of the gradient, ``[n]``."""
        return torch.sub(self.new, self.old, out=self._out)

    def _compute(self, name: str) -> Tensor:
        if name == "norm":
            return self._flat.largest(self.new)
        first, second = (getattr(self, vector) for vector in _PAIRS[name])
        return self._flat.product(first, second)


def _compute_all(old: Tensor, new: Tensor, direction: Tensor) -> dict[str, Tensor]:
    """Compute the norm, and all products of `_PAIRS`, of vectors ``[n]``."""
    wide = torch.promote_types(new.dtype, torch.float32)
    vectors = {
        "old": old.to(wide),
        "new": new.to(wide),
        "direction": direction.to(wide),
        "change": (new - old).to(wide),
    }
    products = {
        name: (vectors[first] * vectors[second]).sum(dtype=torch.float64)
        for name, (first, second) in _PAIRS.items()
    }
    return {**products, "norm": new.abs().amax()}
