"""Optimization as a library: works on any module or plain function."""

import torch

from regard.optim.adam_then_cg import AdamThenCG
from regard.optim.conjugate_gradient import ConjugateGradient
from regard.optim.curvature.hutchinson import diagonal, trace
from regard.optim.curvature.lanczos import lanczos
from regard.optim.curvature.linear_cg import solve
from regard.optim.curvature.operators import (
    CurvatureOperator,
    gauss_newton_operator,
    hessian_operator,
)
from regard.optim.curvature.spectrum import spectral_density, top_eigenvalues
from regard.optim.gradient_descent import GradientDescent
from regard.optim.lbfgs import LBFGS
from regard.optim.line_search import Armijo, HagerZhang, StrongWolfe
from regard.optim.minimize import Minimum, minimize
from regard.optim.muon import Muon, orthogonalize
from regard.optim.newton_cg import NewtonCG
from regard.optim.objectives.full_batch import FullBatch
from regard.optim.objectives.objective import Objective
from regard.optim.schedules import SCHEDULES, Schedule

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam-then-cg": AdamThenCG,
    "adamw": torch.optim.AdamW,
    "cg": ConjugateGradient,
    "gradient-descent": GradientDescent,
    "lbfgs": LBFGS,
    "muon": Muon,
    "newton-cg": NewtonCG,
    "sgd": torch.optim.SGD,
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
    "FullBatch",
    "GradientDescent",
    "HagerZhang",
    "Minimum",
    "Muon",
    "NewtonCG",
    "Objective",
    "Schedule",
    "StrongWolfe",
    "diagonal",
    "gauss_newton_operator",
    "hessian_operator",
    "lanczos",
    "minimize",
    "orthogonalize",
    "solve",
    "spectral_density",
    "top_eigenvalues",
    "trace",
]
