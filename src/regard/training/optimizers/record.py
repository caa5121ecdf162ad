"""What a training run knows of an optimizer: what it sees, how it is built, what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import nn

if TYPE_CHECKING:
    from regard.optim.line_search_optimizer import LineSearchOptimizer
    from regard.optim.matrix_sharing import MatrixSharing
    from regard.training.training_config import OptimizerConfig


class OptimizerInputs(NamedTuple):
    """What the optimizers of steps on batches are built of.

    Args:
        model: Whose parameters are trained.
        config: Of the optimizer.
        rate: Peak learning rate, above 0.
        dtype: Type of products that the optimizer computes.
        sharing: The processes that share Muon's updates; None computes all of them here.
    """

    model: nn.Module
    config: OptimizerConfig
    rate: float
    dtype: torch.dtype
    sharing: MatrixSharing | None


BuildOnBatches: TypeAlias = Callable[[OptimizerInputs], list[torch.optim.Optimizer]]
"""Builds the optimizers of steps on batches, each with its parameter groups."""
BuildOnAllRows: TypeAlias = "Callable[[list[nn.Parameter], OptimizerConfig], LineSearchOptimizer]"
"""Builds the method of steps that see all rows, of the parameters that are trained."""


@dataclass(frozen=True, kw_only=True)
class OptimizerRecord:
    """An optimizer of training runs, on batches, on all rows, or first on these, then on those.

    Args:
        on_batches: Builds what takes steps on batches; None where every step sees all rows.
        on_all_rows: Builds what takes steps on all rows; None where no step sees them. Where there
            are both, a run begins on batches.
        num_passes: Passes over the data in a step on all rows, about; a product of the curvature
            with a vector is one.
        takes_curvature: Whether it multiplies with the matrix of `OptimizerConfig.curvature`.
        fine_tuning_rate: Peak learning rate over trained weights; None takes a fraction of the
            preset's.
    """

    on_batches: BuildOnBatches | None = None
    on_all_rows: BuildOnAllRows | None = None
    num_passes: float = 1.0
    takes_curvature: bool = False
    fine_tuning_rate: float | None = None

    @property
    def needs_full_batch(self) -> bool:
        """Whether it sees all rows at once, at least in the end."""
        return self.on_all_rows is not None

    def num_batches(self, per_pass: int) -> float:
        """Return about how many batches, of `per_pass` in a pass, take as long as a step."""
        return per_pass * self.num_passes if self.is_full_batch else 1.0

    @property
    def is_full_batch(self) -> bool:
        """Whether every step sees all rows, and so is a pass over the data at least."""
        return self.on_batches is None
