"""Optimization as a library: works on any module or plain function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regard.lazy import Registry, import_lazily

if TYPE_CHECKING:
    import torch

    from regard.optim.adam_then_cg import AdamThenCG
    from regard.optim.conjugate_gradient import ConjugateGradient
    from regard.optim.curvature.hutchinson import hutchinson_diagonal, hutchinson_trace
    from regard.optim.curvature.lanczos import lanczos
    from regard.optim.curvature.linear_cg import conjugate_gradient_solve
    from regard.optim.curvature.operators import (
        CurvatureOperator,
        gauss_newton_operator,
        hessian_operator,
    )
    from regard.optim.curvature.spectrum import spectral_density, top_eigenvalues
    from regard.optim.gradient_descent import GradientDescent
    from regard.optim.lbfgs import LBFGS
    from regard.optim.line_search import Armijo, HagerZhang, StrongWolfe
    from regard.optim.line_search_optimizer import LineSearchOptimizer
    from regard.optim.minimize import OptimizeResult, minimize
    from regard.optim.muon import Muon, orthogonalize
    from regard.optim.newton_cg import NewtonCG
    from regard.optim.objectives.full_batch import FullBatch
    from regard.optim.objectives.objective import DeterministicObjective
    from regard.optim.schedules import Schedule

import_lazily(__name__)

METHODS: Registry[type[LineSearchOptimizer]] = Registry(
    {
        "cg": "regard.optim.conjugate_gradient.ConjugateGradient",
        "newton-cg": "regard.optim.newton_cg.NewtonCG",
        "lbfgs": "regard.optim.lbfgs.LBFGS",
        "gradient-descent": "regard.optim.gradient_descent.GradientDescent",
    }
)
"""Methods for deterministic objectives by name."""
MUON, ADAMW = "muon", "adamw"
"""Names of those that are chosen where the user chooses none."""
_FOR_BATCHES: Registry[type[torch.optim.Optimizer]] = Registry(
    {
        MUON: "regard.optim.muon.Muon",
        ADAMW: "torch.optim.AdamW",
        "sgd": "torch.optim.SGD",
    }
)
OPTIMIZERS: Registry[type[torch.optim.Optimizer]] = (
    _FOR_BATCHES | METHODS | Registry({"adam-then-cg": "regard.optim.adam_then_cg.AdamThenCG"})
)
"""Optimizers by the name that settings have for them."""
SCHEDULES: Registry[Schedule] = Registry(
    {
        "cosine": "regard.optim.schedules.cosine",
        "linear": "regard.optim.schedules.linear",
        "constant": "regard.optim.schedules.constant",
    }
)
"""Schedules of the learning rate by the name that settings have for them."""

__all__ = [
    "LBFGS",
    "OPTIMIZERS",
    "SCHEDULES",
    "AdamThenCG",
    "Armijo",
    "ConjugateGradient",
    "CurvatureOperator",
    "DeterministicObjective",
    "FullBatch",
    "GradientDescent",
    "HagerZhang",
    "Muon",
    "NewtonCG",
    "OptimizeResult",
    "Schedule",
    "StrongWolfe",
    "conjugate_gradient_solve",
    "gauss_newton_operator",
    "hessian_operator",
    "hutchinson_diagonal",
    "hutchinson_trace",
    "lanczos",
    "minimize",
    "orthogonalize",
    "spectral_density",
    "top_eigenvalues",
]
