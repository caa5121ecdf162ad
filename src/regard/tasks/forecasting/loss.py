"""The loss of a forecaster: the pinball loss of all quantiles, and the calibration of its bands.

Bands are calibrated on held-out windows by split conformal prediction (Romano, Patterson & Candes
2019, "Conformalized Quantile Regression", in the form that stretches a band by a factor): the error
of the median in units of the predicted distance of the band's end is sorted, and the band is
stretched so that it covers as many of these windows as it claims.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from regard.metrics.forecasts import LEVELS, MEDIAN, weighted_quantile_loss
from regard.models import PatchTst
from regard.models.patch_tst.model import ScaledQuantiles
from regard.tasks.forecasting.series_windows import ForecastBatches, SeriesWindowBatch
from regard.training.device import move_batch
from regard.training.distribution import ALONE, World
from regard.training.train_step import Loss

_LEVELS = torch.tensor(LEVELS)
BANDS = {f"band_{round(100 * (LEVELS[-1 - end] - LEVELS[end]))}": end for end in range(MEDIAN)}
"""Bands by their names in ``calibration.json``: index in `LEVELS` of the lower end."""
_VALUES_OF_HORIZON = 8  # that count as independent, of a horizon
_FEWEST_WINDOWS = 20  # to make a band narrower: fewer can agree by chance
_LARGEST_STRETCH = 4.0  # of a band: a larger one means windows that differ from those of training


@dataclass(frozen=True)
class QuantileLoss:
    """The mean pinball loss of all quantiles, twice, in units of each window's deviation."""

    def __call__(self, model: PatchTst, batch: SeriesWindowBatch) -> Loss:
        """Compute the loss of a batch of windows; values that are missing do not count."""
        return self.of_outputs(self.outputs(model, batch), batch)

    @staticmethod
    def outputs(model: PatchTst, batch: SeriesWindowBatch) -> ScaledQuantiles:
        """Compute the quantiles of every member."""
        return model.scaled(move_batch(batch, model).inputs)

    def of_outputs(self, outputs: ScaledQuantiles, batch: SeriesWindowBatch) -> Loss:
        """Compute the loss from the quantiles of every member."""
        expected = batch.targets.to(outputs.mean.device, non_blocking=True)
        scaled = (expected - outputs.mean) / outputs.scale  # [batch, horizon]
        is_known = ~scaled.isnan()
        targets = scaled.nan_to_num().to(outputs.quantiles.dtype)
        levels = _LEVELS.to(targets.device, targets.dtype, non_blocking=True)
        errors = targets[..., None] - outputs.quantiles  # [members, batch, horizon, levels]
        pinball = 2 * torch.maximum(levels * errors, (levels - 1) * errors).mean((0, -1))
        num_known = int((~batch.targets.isnan()).sum())  # in main memory
        loss = (pinball * is_known).sum() / max(1, num_known)
        return Loss(loss=loss, nll=loss.detach(), num_tokens=num_known)


@torch.no_grad()
def predicted_quantiles(
    model: PatchTst, batches: ForecastBatches, world: World = ALONE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the quantiles of windows.

    Args:
        model: Model in evaluation mode.
        batches: The windows.
        world: The processes that share the batches.

    Returns:
        Targets, ``[windows, horizon]``, NaN where missing, and quantiles,
        ``[windows, horizon, levels]``.
    """

    def predict(rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        batch = batches.batch(rows)
        quantiles = model(*move_batch(batch, model).inputs).double()
        return batch.targets.numpy(), quantiles.cpu().numpy()

    targets, quantiles = zip(*world.map(predict, batches.in_sequence()), strict=True)
    return np.concatenate(targets), np.concatenate(quantiles)


def forecast_measures(
    targets: NDArray[np.float64], quantiles: NDArray[np.float64]
) -> dict[str, float]:
    """Compute the weighted quantile loss and the fraction of values in the 80 % band.

    Args:
        targets: ``[windows, horizon]``, NaN where missing.
        quantiles: ``[windows, horizon, levels]``.

    Returns:
        ``wql``, and ``coverage80`` in percent.
    """
    is_known = ~np.isnan(targets)
    low, high = quantiles[..., LEVELS.index(0.1)], quantiles[..., LEVELS.index(0.9)]
    is_inside = (targets >= low) & (targets <= high)  # [windows, horizon]
    return {
        "wql": weighted_quantile_loss(targets, quantiles),
        "coverage80": 100 * float(is_inside[is_known].mean()) if is_known.any() else math.nan,
    }


def calibrate_bands(
    targets: NDArray[np.float64], quantiles: NDArray[np.float64], num_steps: int
) -> dict[str, float]:
    """Return the factors by which bands are stretched to cover what they claim.

    The errors of a window are correlated, and windows overlap: a horizon of steps counts as at most
    `_VALUES_OF_HORIZON` independent values.

    Args:
        targets: Targets of held-out windows, ``[windows, horizon]``, NaN where missing.
        quantiles: ``[windows, horizon, levels]``.
        num_steps: Steps that the windows have together.

    Returns:
        The factor of each band of `BANDS`, 1 or more where there are few windows.
    """
    horizon = targets.shape[1]
    count = max(1.0, num_steps / horizon * min(horizon, _VALUES_OF_HORIZON))
    least = 1.0 if len(targets) < _FEWEST_WINDOWS else 1 / _LARGEST_STRETCH
    median = quantiles[..., MEDIAN]
    factors: dict[str, float] = {}
    for name, end in BANDS.items():
        below, above = median - quantiles[..., end], quantiles[..., -1 - end] - median
        width = np.where(targets < median, below, above)  # [windows, horizon]
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = np.abs(targets - median) / width
        errors = np.sort(errors[~np.isnan(errors)])
        if not len(errors):
            continue
        level = (LEVELS[-1 - end] - LEVELS[end]) * (count + 1) / count  # of a finite sample
        factor = np.quantile(errors, min(1.0, level), method="higher")
        factors[name] = float(np.clip(factor, least, _LARGEST_STRETCH))
    return factors


def stretch_bands(quantiles: NDArray[np.float64], factors: dict[str, float]) -> NDArray[np.float64]:
    """Return quantiles, ``[..., levels]``, whose bands are stretched around the median.

    Args:
        quantiles: ``[..., levels]``, rising.
        factors: Factors of bands, by their names; those without one stay as they are.
    """
    stretched = quantiles.copy()
    median = quantiles[..., MEDIAN]
    for name, end in reversed(BANDS.items()):  # from the innermost band outwards
        factor = factors.get(name, 1.0)
        for level, inner, sign in ((end, end + 1, -1), (-1 - end, -2 - end, 1)):
            distance = np.abs(quantiles[..., level] - median) * factor
            outermost = np.maximum(distance, np.abs(stretched[..., inner] - median))
            stretched[..., level] = median + sign * outermost
    return stretched
