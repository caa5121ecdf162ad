"""Integrated gradients: the gradient, averaged on the way from the baseline to the input.

Sundararajan, Taly & Yan 2017, "Axiomatic Attribution for Deep Networks", equation 1: a feature's
score is its difference to the baseline times the mean gradient on the straight line between the
two. The scores of all features sum to the change of the output from the baseline to the input
(completeness), so that the error of the integral is known, and reported.

The integral is computed by Gauss-Legendre quadrature, which captum uses too. Its number of points
is doubled for the outputs whose error is still too large. The score of a token that is copied is
steep near the baseline: there a prediction has more points by a substitution, ``w = t^2``.

Cost: steps forward passes, outputs x steps backward passes, and twice that with each doubling.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from regard.explain.attribution.method import Attribution, Budget, Method
from regard.explain.attribution.weight_gradients import path_gradients
from regard.explain.prediction import Baseline, Prediction

FIRST_STEPS = 20
MOST_STEPS = 320
MOST_ERROR = 0.01  # accepted completeness error, as a fraction of the change of the output
_LEAST_CHANGE = 0.01  # by which an error is divided, as a fraction of the sum of |scores|
_MAX_REFINED_ROWS = 2000  # outputs x points of a refinement; the largest errors come first
_CONVERGED = 0.1  # relative change of the error below which more points do not help
_JUDGED_FROM = 80  # steps: the errors of fewer are equal by chance


def integrated_gradients(prediction: Prediction, budget: Budget) -> Attribution:
    """Attribute the change of each output from the baseline to the input to the features.

    Args:
        prediction: What is explained.
        budget: Limit of memory, with the callback of progress.

    Returns:
        Scores, their errors, and the most points that an output needed. Points are added for an
        output while its error is above 1 %, they help, and there are less than 320; where many
        outputs need them, for those with the largest errors.
    """
    max_steps = MOST_STEPS if budget.max_steps is None else budget.max_steps
    change = total_changes(prediction)
    num_outputs, num_features = len(prediction.outputs), len(prediction.features)
    scores = change.new_zeros(num_outputs, num_features)
    error = change.new_full((num_outputs,), torch.inf)
    pending, steps, num_done = torch.arange(num_outputs), FIRST_STEPS, 0
    while True:
        scores[pending] = integrate(prediction, pending, steps, budget=budget, num_done=num_done)
        num_done += steps
        previous_error = error[pending]
        error[pending] = completeness_error(scores[pending], change[pending])
        change_of_error = (previous_error - error[pending]).abs()
        has_converged = (steps >= _JUDGED_FROM) & (change_of_error < _CONVERGED * previous_error)
        pending = pending[(error[pending] > MOST_ERROR) & ~has_converged]
        if not len(pending) or 2 * steps > max_steps:
            break
        steps *= 2
        if len(pending) > _MAX_REFINED_ROWS // steps:
            pending = pending[error[pending].topk(_MAX_REFINED_ROWS // steps).indices]
    return Attribution(scores.masked_fill(~prediction.reads, torch.nan), error, steps)


def integrate(
    prediction: Prediction,
    outputs: Tensor,
    steps: int,
    *,
    baseline: Baseline = "reference",
    budget: Budget,
    num_done: int = 0,
) -> Tensor:
    """Approximate the integral of equation 1 by a number of points.

    Args:
        prediction: What is explained.
        outputs: Indices of outputs, ``[n]``.
        steps: Points of the integral, 1 or more.
        baseline: Where the line begins.
        budget: Limit of memory, with the callback of progress.
        num_done: Rows of earlier passes, for the budget's `on_progress`.

    Returns:
        Scores, ``[n, features]``, float64.
    """
    nodes, node_weights = gauss_legendre(steps, power=prediction.path_power)
    scores = torch.zeros(len(outputs), len(prediction.features), dtype=torch.float64)
    for points in budget.chunks(prediction, steps, num_done=num_done):
        scores += path_gradients(
            prediction, nodes[points], node_weights[points], outputs, baseline=baseline
        )
    return scores


def gauss_legendre(steps: int, *, power: int = 1) -> tuple[Tensor, Tensor]:
    """Return the points between 0 and 1 and their weights, ``[steps]`` each, float64.

    Args:
        steps: Number of points, 1 or more.
        power: The points are those of t, with ``x = t^power`` and ``dx = power t^(power - 1) dt``.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # between -1 and 1
    t = (nodes + 1) / 2
    factors = power * t ** (power - 1) * weights / 2
    return torch.from_numpy(t**power), torch.from_numpy(factors)


def total_changes(prediction: Prediction) -> Tensor:
    """Compute the changes of the scores from the baseline to the input, ``[outputs]``, float64."""
    ends = torch.stack([torch.zeros(len(prediction.features)), prediction.full_weights()[0]])
    with torch.no_grad():
        start, end = prediction.scores(ends).double()
    return end - start


def completeness_error(scores: Tensor, change: Tensor) -> Tensor:
    """Compute the relative error of completeness: |sum of scores - change| / |change|.

    Where scores cancel each other, the change is small by chance: the error is then a fraction of
    1 % of the sum of their absolute values.

    Args:
        scores: ``[outputs, features]``.
        change: ``[outputs]``.

    Returns:
        ``[outputs]``, 0 or more.
    """
    scale = torch.maximum(change.abs(), _LEAST_CHANGE * scores.abs().sum(-1))
    difference = (scores.sum(-1) - change).abs()
    return torch.where(difference == 0, 0.0, difference / scale)


INTEGRATED_GRADIENTS = Method("Integrated gradients", True, integrated_gradients)
