"""Which training rows made a model say what it says: influence functions (Koh & Liang 2017).

Training minimizes L, the mean over all tokens of the losses of rows. Leaving row i out moves the
weights by about ``A^-1 g_i / T``, g_i the gradient of the row's summed loss, T the tokens of all
rows, and A the curvature of L; so the log-probability s of an output changes by about
``(A^-1 grad s) . g_i / T``. The influence of the row is the negative of that: what s owes to it, in
nats.

A is the Gauss-Newton matrix with damping, ``G + lambda I``, which is positive whether or not
training has reached a minimum: the change is then that of a training which continues from these
weights and is held near them (Bae et al. 2022, "If Influence Functions are the Answer, Then What is
the Question?"). ``A^-1 grad s`` is found by conjugate gradient, from products alone. It is solved
once for an output; each row then costs one derivative of its loss along that direction.

Cost: some products over a part of the data, of about four gradients each, and one pass over all
rows of about three evaluations. Memory: some vectors of the weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.errors import ConfigError
from regard.explain.document import InfluentialRow, TrainingInfluence
from regard.explain.influence.influence_options import (
    DEFAULT_OPTIONS,
    InfluenceOptions,
    RowProgress,
)
from regard.explain.influence.training_objective import TrainingObjective
from regard.explain.prediction import ClassPrediction, Prediction
from regard.optim.curvature.lanczos import Lanczos
from regard.optim.curvature.linear_cg import LinearSolution, conjugate_gradient_solve
from regard.optim.curvature.operators import CurvatureOperator

_PROBES = 5  # products for the largest eigenvalue
_TOLERANCE = 1e-2  # of the residual: what is left of it is far below what leaving rows out misses


@dataclass(frozen=True)
class RowInfluence:
    """The influence of every training row on an output.

    Args:
        objective: The training loss.
        values: Influence of each training row, ``[rows]``, float64, in nats.
        batch_rows: All rows of the batches, ``[batch rows]``: a long text may be several of them.
        owners: Index in `values` of the training row of each, ``[batch rows]``.
        damping: lambda.
        num_products: Products with the curvature.
        residual: ``|A x - b| / |b|`` at the end.
        num_product_rows: Rows of batches that a product is taken over.
        seconds: That all of it took.
    """

    objective: TrainingObjective
    values: NDArray[np.float64]
    batch_rows: NDArray[np.int64]
    owners: NDArray[np.int64]
    damping: float
    num_products: int
    residual: float
    num_product_rows: int
    seconds: float

    def report(self, num_rows: int) -> TrainingInfluence:
        """Return the document, with the rows of the highest and of the lowest influence.

        Args:
            num_rows: Rows of each kind, at most.
        """
        order = np.argsort(self.values, kind="stable")
        setup, values = self.objective.setup, self.values
        return TrainingInfluence(
            data=setup.dataset.path,
            unit=setup.dataset.row_unit,
            num_rows=len(values),
            helpful=[self._row(index) for index in order[::-1][:num_rows] if values[index] > 0],
            harmful=[self._row(index) for index in order[:num_rows] if values[index] < 0],
            total_helpful=float(values[values > 0].sum()),
            total_harmful=float(values[values < 0].sum()),
            damping=self.damping,
            num_products=self.num_products,
            residual=self.residual,
            num_product_rows=self.num_product_rows,
            seconds=round(self.seconds, 1),
        )

    def rows_of(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of batches that some training rows are, by their indices in `values`."""
        return self.batch_rows[np.isin(self.owners, indices)]

    def _row(self, index: int) -> InfluentialRow:
        row = self.objective.setup.training_row(int(self.rows_of([index])[0]))
        return InfluentialRow(
            location=row.location,
            text=row.text,
            target=row.target,
            influence=float(f"{self.values[index]:.6g}"),
        )


def require_probabilities(prediction: Prediction) -> ClassPrediction:
    """Return a prediction of classes; raise ConfigError for another, such as a forecast."""
    if isinstance(prediction, ClassPrediction):
        return prediction
    raise ConfigError(
        "a forecast has no probability that rows of the training data could raise or lower."
    )


def row_influence(
    prediction: ClassPrediction,
    objective: TrainingObjective,
    options: InfluenceOptions = DEFAULT_OPTIONS,
    on_progress: RowProgress | None = None,
) -> RowInfluence:
    """Compute what the outputs of a prediction owe to every training row.

    Args:
        prediction: Of the model whose training loss it is. The log-probabilities of all outputs are
            added; with a contrast, their differences to that of the other output.
        objective: The training loss.
        options: How it is computed.
        on_progress: Hears of the computation.

    Returns:
        The influence of every row.

    Raises:
        ConfigError: The outputs do not depend on the weights that were trained.
    """
    prediction.refresh()
    slope = objective.gradient(lambda: prediction.scores(prediction.full_weights()).sum())
    return influence_on(slope, objective, options, on_progress)


def influence_on(
    slope: Tensor,
    objective: TrainingObjective,
    options: InfluenceOptions = DEFAULT_OPTIONS,
    on_progress: RowProgress | None = None,
) -> RowInfluence:
    """Compute what a function of the weights owes to every training row.

    Args:
        slope: Gradient of the function, ``[n]``, such as that of the loss of other rows, negated.
        objective: The training loss.
        options: How it is computed.
        on_progress: Hears of the computation.

    Returns:
        The influence of every row, in the unit of the function.

    Raises:
        ConfigError: The slope is zero, or not finite.
    """
    start = time.monotonic()
    num_product_rows = objective.num_spread(options.product_tokens)
    progress = _RowsDone(on_progress)
    num_products = _PROBES + options.most_products
    progress.expect("Products with the curvature, rows", num_products * num_product_rows)
    with objective.gauss_newton(options.product_tokens, progress.add) as curvature:
        solution, damping = _solve(curvature, slope, options)
    progress.expect("Influence of training rows", objective.num_rows)
    derivatives = objective.row_derivatives(solution.x, progress.add)
    return RowInfluence(
        objective=objective,
        values=-np.bincount(objective.owners, derivatives.values) / derivatives.num_tokens,
        batch_rows=objective.batch_rows,
        owners=objective.owners,
        damping=damping,
        num_products=_PROBES + solution.num_iterations,
        residual=solution.residuals[-1],
        num_product_rows=num_product_rows,
        seconds=time.monotonic() - start,
    )


def _solve(
    curvature: CurvatureOperator, slope: Tensor, options: InfluenceOptions
) -> tuple[LinearSolution, float]:
    """Solve ``(G + lambda I) x = slope``.

    The first products give the largest eigenvalue, of which lambda is a fraction, and an x to start
    from: the solution in the space of these products.

    Args:
        curvature: G, of shape ``[n, n]``.
        slope: Right side, ``[n]``.
        options: Fraction and number of products.

    Returns:
        The solution, and lambda.

    Raises:
        ConfigError: The slope or the curvature is zero, or not finite.
    """
    norm = torch.linalg.vector_norm(slope)
    _require_slope(float(norm))
    lanczos = Lanczos(curvature, slope, min(_PROBES, len(slope)), torch.Generator())
    lanczos.extend(min(_PROBES, len(slope)))
    probes = lanczos.result()
    eigenvalues, vectors = probes.eigen()  # [k], [k, k]
    if eigenvalues[-1] <= 0:
        raise ConfigError(
            "the model is certain of all its training rows, so that none of them has influence."
        )
    damping = options.damping * float(eigenvalues[-1])
    inside = vectors @ (vectors[0] / (eigenvalues + damping))  # [k]
    solution = conjugate_gradient_solve(
        lambda vector: torch.add(curvature @ vector, vector, alpha=damping),
        slope,
        x0=norm * (inside.to(slope) @ probes.basis),
        rtol=_TOLERANCE,
        max_iterations=options.most_products,
    )
    return solution, damping


def _require_slope(norm: float) -> None:
    """Check the norm of the gradient of the outputs.

    Raises:
        ConfigError: It is zero, or not finite.
    """
    if not math.isfinite(norm):
        raise ConfigError("the gradient of the outputs is not finite.  Check the weights.")
    if norm == 0:
        raise ConfigError(
            "the outputs do not depend on the weights that were trained, or are certain: no row "
            "has influence on them."
        )


class _RowsDone:
    """Counts rows of batches for those who wait.

    Args:
        on_progress: Hears of them; None where nobody does.
    """

    def __init__(self, on_progress: RowProgress | None) -> None:
        self._on_progress, self._name, self._done, self._total = on_progress, "", 0, 0

    def expect(self, name: str, num_rows: int) -> None:
        """Begin to count from zero, up to a number of rows, under the name of what is computed."""
        self._name, self._done, self._total = name, 0, num_rows

    def add(self, num_rows: int) -> None:
        """Count rows that have been computed."""
        self._done = min(self._done + num_rows, self._total)
        if self._on_progress is not None:
            self._on_progress(self._name, self._done, self._total)
