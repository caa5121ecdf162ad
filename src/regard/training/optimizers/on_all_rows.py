"""Methods of steps that see all rows, as training runs take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from regard.optim import LBFGS, ConjugateGradient, GradientDescent, NewtonCG

if TYPE_CHECKING:
    from regard.training.training_config import OptimizerConfig


def build_conjugate_gradient(
    parameters: list[nn.Parameter], config: OptimizerConfig
) -> ConjugateGradient:
    """Build conjugate gradient, preconditioned as Adam unless that is switched off."""
    return ConjugateGradient(
        parameters,
        beta=config.beta,
        memory=config.memory,
        preconditioner=None if config.preconditioner == "none" else "adam",
    )


def build_newton_cg(parameters: list[nn.Parameter], config: OptimizerConfig) -> NewtonCG:
    """Build Newton-CG with damping."""
    return NewtonCG(
        parameters,
        curvature=config.curvature,
        region="levenberg-marquardt",
        preconditioner="adam" if config.preconditioner == "adam" else None,
        curvature_fraction=config.curvature_fraction,
    )


def build_lbfgs(parameters: list[nn.Parameter], config: OptimizerConfig) -> LBFGS:
    """Build L-BFGS, which remembers a step at least."""
    return LBFGS(parameters, history_size=max(1, config.memory))


def build_gradient_descent(
    parameters: list[nn.Parameter], config: OptimizerConfig
) -> GradientDescent:
    """Build gradient descent of a fixed rate; without one it takes Barzilai-Borwein steps."""
    rate = config.learning_rate
    return GradientDescent(parameters, step="barzilai-borwein" if rate is None else rate)
