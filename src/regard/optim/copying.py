"""Copies and pickles of optimizers: PyTorch's have groups and state alone, ours all settings."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

_HOOKS = "_optimizer_"  # what the names of hooks begin with in PyTorch
_OF_SCHEDULERS = {"step", "_opt_called"}  # set by PyTorch's schedulers: a copy is of no scheduler


def copied_attributes(optimizer: Optimizer) -> dict[str, Any]:
    """Return what a copy or a pickle of an optimizer has; hooks are left out, as PyTorch does."""
    return {
        name: value
        for name, value in vars(optimizer).items()
        if not name.startswith(_HOOKS) and name not in _OF_SCHEDULERS
    }
