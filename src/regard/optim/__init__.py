"""Optimization as a library: works on any module or plain function."""

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
from regard.optim.minimize import METHODS, OptimizeResult, minimize
from regard.optim.muon import Muon, orthogonalize
from regard.optim.newton_cg import NewtonCG
from regard.optim.objectives.full_batch import FullBatch
from regard.optim.objectives.objective import DeterministicObjective
from regard.optim.schedules import SCHEDULES, Schedule

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "muon": Muon,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    **METHODS,
    "adam-then-cg": AdamThenCG,
}
"""Optimizers by the name that settings have for them."""

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
