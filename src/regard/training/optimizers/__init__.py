"""The optimizers of training runs: a record of each, by the class that `regard.optim` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from regard.optim import (
    LBFGS,
    OPTIMIZERS,
    AdamThenCG,
    ConjugateGradient,
    GradientDescent,
    Muon,
    NewtonCG,
)
from regard.training.optimizers.on_all_rows import (
    build_conjugate_gradient,
    build_gradient_descent,
    build_lbfgs,
    build_newton_cg,
)
from regard.training.optimizers.on_batches import build_adamw, build_muon, build_sgd
from regard.training.optimizers.record import OptimizerRecord

if TYPE_CHECKING:
    from regard.training.training_config import OptimizerConfig

RECORDS: dict[type[torch.optim.Optimizer], OptimizerRecord] = {
    Muon: OptimizerRecord(on_batches=build_muon),
    torch.optim.AdamW: OptimizerRecord(
        on_batches=build_adamw,
        fine_tuning_rate=1e-4,  # Devlin et al. 2019: 2e-5 to 5e-5
    ),
    torch.optim.SGD: OptimizerRecord(on_batches=build_sgd),
    ConjugateGradient: OptimizerRecord(on_all_rows=build_conjugate_gradient, num_passes=1.5),
    NewtonCG: OptimizerRecord(on_all_rows=build_newton_cg, num_passes=25.0, takes_curvature=True),
    LBFGS: OptimizerRecord(on_all_rows=build_lbfgs, num_passes=1.2),
    GradientDescent: OptimizerRecord(on_all_rows=build_gradient_descent, num_passes=1.3),
    AdamThenCG: OptimizerRecord(
        on_batches=build_adamw, on_all_rows=build_conjugate_gradient, num_passes=1.5
    ),
}
"""Each class of `regard.optim.OPTIMIZERS`, which names it, has a record."""


def record_of(name: str) -> OptimizerRecord:
    """Return the record of an optimizer by its name in settings."""
    return RECORDS[OPTIMIZERS[name]]


def needs_full_batch(name: str) -> bool:
    """Return whether an optimizer sees all rows at once, at least in the end."""
    return record_of(name).needs_full_batch


def takes_gauss_newton(config: OptimizerConfig) -> bool:
    """Return whether an optimizer multiplies with the Gauss-Newton matrix, of a convex loss."""
    return record_of(config.name).takes_curvature and config.curvature == "gauss-newton"


__all__ = ["RECORDS", "OptimizerRecord", "needs_full_batch", "record_of", "takes_gauss_newton"]
