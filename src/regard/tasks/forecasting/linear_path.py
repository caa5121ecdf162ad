"""The first weights of a forecaster's linear path: ridge regression on the training windows.

The median of each step ahead is regressed on the scaled history and the calendar (Hoerl & Kennard
1970, "Ridge Regression"), in closed form, with the penalty that is best on held-out windows. The
Transformer next to it starts at zero, so training starts from this regression. Cost: one product
and a few solutions of a matrix of window + calendar rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.models import PatchTst
from regard.tasks.forecasting.series_windows import ForecastBatches

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # in units of the mean square of a lag, times rows
_MOST_COLUMNS = 4096  # of the matrix that is solved


@torch.no_grad()
def fit_linear_path(
    model: PatchTst, batches: ForecastBatches, held_out: ForecastBatches
) -> float | None:
    """Set the linear path of every member to the best ridge regression.

    Args:
        model: Model with or without a linear path.
        batches: Windows of the training steps; missing targets are imputed, and windows of which
            most are missing are left out.
        held_out: Windows that choose the penalty, by the absolute error.

    Returns:
        The penalty; None where the model has no linear path or nothing to learn it from, and where
        its window is too long to solve.
    """
    layers = model.linear_paths()
    if not layers or layers[0].in_features > _MOST_COLUMNS:
        return None
    inputs, targets = _regression(model, batches)
    if len(inputs) < 2:
        return None
    tested = _regression(model, held_out)
    centre, level = inputs.mean(0), targets.mean(0)
    inputs = inputs - centre
    gram, moments = inputs.T @ inputs, inputs.T @ (targets - level)
    unit = gram.diagonal()[: model.config.window].mean().clamp(min=1e-12)
    best: tuple[float, float, Tensor] | None = None
    for penalty in _PENALTIES:
        ridge = penalty * unit * torch.eye(len(gram), dtype=gram.dtype)
        weight = torch.linalg.solve(gram + ridge, moments)  # [columns, horizon]
        errors = tested[1] - level - (tested[0] - centre) @ weight
        error = float(errors.abs().mean()) if errors.numel() else penalty
        if best is None or error < best[0]:
            best = error, penalty, weight
    assert best is not None
    _, penalty, weight = best
    for layer in layers:
        layer.weight.copy_(weight.T)
        layer.bias.copy_(level - centre @ weight)
    return penalty


def _regression(model: PatchTst, batches: ForecastBatches) -> tuple[Tensor, Tensor]:
    """Return scaled histories with the calendar of the first step, and scaled targets.

    Returns:
        float64 ``[windows, window + num_calendar]`` and ``[windows, horizon]``, of the windows
        with more known targets than missing ones.
    """
    inputs, targets = [], []
    for rows in batches.in_sequence():
        batch = batches.batch(rows)
        z, mean, scale = model.scale(batch.values, batch.is_missing)
        calendar = batch.calendar[:, model.config.window // model.config.patch].double()
        inputs.append(torch.cat([z, calendar], dim=1))
        imputed = torch.from_numpy(batches.imputed_targets(rows))
        targets.append((imputed - mean) / scale)
    all_inputs, all_targets = torch.cat(inputs), torch.cat(targets)
    is_whole = ~all_targets.isnan().any(1)
    return all_inputs[is_whole], all_targets[is_whole]
