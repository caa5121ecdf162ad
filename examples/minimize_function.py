"""Minimize a function of tensors, by every method, and count the work.

    python examples/minimize_function.py

The function is the extended Rosenbrock function, whose minimum is 0 where all entries are 1.
`minimize` needs no gradient from you and returns the fields that SciPy's function returns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.optim import OptimizeResult, minimize


def rosenbrock(x: Tensor) -> Tensor:
    """Compute the sum of ``100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2``, ``[n]`` to a scalar."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def main() -> dict[str, OptimizeResult]:
    """Minimize from one starting point; return the result of each method."""
    start = torch.zeros(50, dtype=torch.float64)
    results = {}
    for method in ("cg", "lbfgs", "newton-cg"):
        result = minimize(rosenbrock, start, method=method, tol=1e-8)
        results[method] = result
        print(
            f"{method:<10} f = {result.fun:.1e}   {result.nfev} values, {result.ngev} gradients, "
            f"{result.nhvp} Hessian products   {result.message}"
        )
    return results


if __name__ == "__main__":
    main()
