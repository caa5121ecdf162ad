"""The pinball loss, and bands that are stretched to cover what they claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regard.metrics.forecasts import LEVELS, MEDIAN, coverage, weighted_quantile_loss
from regard.models import PatchTst, PatchTstConfig
from regard.models.patch_tst.model import ScaledQuantiles
from regard.tasks.forecasting.loss import (
    BANDS,
    QuantileLoss,
    calibrate_bands,
    forecast_measures,
    stretch_bands,
)
from regard.tasks.forecasting.series_windows import SeriesWindowBatch

RNG = np.random.default_rng(0)


def batch_of(targets: torch.Tensor) -> SeriesWindowBatch:
    empty = torch.zeros(len(targets), 0)
    return SeriesWindowBatch(
        values=empty, is_missing=empty, calendar=empty, known=empty, observed=empty, targets=targets
    )


def test_the_loss_is_twice_the_pinball_loss_in_units_of_the_scale():
    quantiles = torch.zeros(1, 1, 1, len(LEVELS), dtype=torch.float64)
    outputs = ScaledQuantiles(quantiles, torch.tensor([[10.0]]), torch.tensor([[2.0]]))
    loss = QuantileLoss().of_outputs(outputs, batch_of(torch.tensor([[14.0]], dtype=torch.float64)))
    assert float(loss.loss) == pytest.approx(2 * np.mean([2 * level for level in LEVELS]))


def test_missing_targets_do_not_count():
    quantiles = torch.randn(1, 1, 3, len(LEVELS), dtype=torch.float64)
    outputs = ScaledQuantiles(quantiles, torch.zeros(1, 1), torch.ones(1, 1))
    whole = batch_of(torch.tensor([[1.0, float("nan"), 3.0]], dtype=torch.float64))
    part = ScaledQuantiles(quantiles[:, :, [0, 2]], outputs.mean, outputs.scale)
    expected = QuantileLoss().of_outputs(part, batch_of(torch.tensor([[1.0, 3.0]]).double()))
    found = QuantileLoss().of_outputs(outputs, whole)
    assert float(found.loss) == pytest.approx(float(expected.loss))
    assert found.num_tokens == 2


def test_the_loss_has_a_gradient_in_every_weight():
    sizes = {"window": 4, "horizon": 2, "patch": 2, "dim": 8, "num_heads": 2, "num_layers": 1}
    model = PatchTst(PatchTstConfig(**sizes, num_members=2))
    with torch.no_grad():  # the head starts at zero, which stops what is before it
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = SeriesWindowBatch(
        values=torch.randn(3, 4, dtype=torch.float64),
        is_missing=torch.zeros(3, 4, dtype=torch.bool),
        calendar=torch.zeros(3, 3, 0),
        known=torch.zeros(3, 6, 0),
        observed=torch.zeros(3, 4, 0),
        targets=torch.randn(3, 2, dtype=torch.float64),
    )
    QuantileLoss()(model, batch).loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in model.parameters() if p.numel())


def test_the_figures_are_those_of_the_metrics():
    targets = RNG.normal(size=(5, 4))
    quantiles = np.sort(RNG.normal(size=(5, 4, len(LEVELS))), axis=-1)
    found = forecast_measures(targets, quantiles)
    assert found["wql"] == weighted_quantile_loss(targets, quantiles)
    assert found["coverage80"] == pytest.approx(100 * coverage(targets, quantiles))


def test_bands_that_are_too_narrow_are_stretched_until_they_cover():
    targets = RNG.normal(size=(400, 5))
    normal = np.array([-1.96, -1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28, 1.96])
    quantiles = np.broadcast_to(0.4 * normal, (400, 5, len(LEVELS)))
    factors = calibrate_bands(targets, quantiles, 404)
    assert factors["band_80"] == pytest.approx(1 / 0.4, rel=0.1)
    held_out = RNG.normal(size=(400, 5))
    assert coverage(held_out, stretch_bands(quantiles, factors)[:400]) == pytest.approx(
        0.8, abs=0.03
    )


def test_few_windows_never_make_a_band_narrower():
    quantiles = np.broadcast_to(np.linspace(-3, 3, len(LEVELS)), (3, 2, len(LEVELS)))
    assert set(calibrate_bands(np.full((3, 2), 0.01), quantiles, 4).values()) == {1.0}
    many = np.broadcast_to(quantiles[0], (40, 2, len(LEVELS)))
    assert max(calibrate_bands(np.full((40, 2), 0.01), many, 41).values()) < 0.3


def test_a_single_horizon_stretches_a_band_to_its_largest_error():
    quantiles = np.broadcast_to(np.linspace(-1, 1, len(LEVELS)), (1, 5, len(LEVELS)))
    factors = calibrate_bands(np.array([[0.0, 0.1, 0.1, 0.2, 2.0]]), quantiles, 5)
    assert factors["band_95"] == pytest.approx(2.0)
    assert factors["band_80"] == pytest.approx(2.0 / 0.8)


def test_stretched_quantiles_rise_and_keep_the_median():
    quantiles = np.sort(RNG.normal(size=(50, len(LEVELS))), axis=-1)
    factors = {name: float(factor) for name, factor in zip(BANDS, (0.1, 3, 0.5, 2, 1), strict=True)}
    stretched = stretch_bands(quantiles, factors)
    assert (np.diff(stretched, axis=-1) >= 0).all()
    np.testing.assert_array_equal(stretched[:, MEDIAN], quantiles[:, MEDIAN])


def test_without_factors_quantiles_stay_as_they_are():
    quantiles = np.sort(RNG.normal(size=(5, len(LEVELS))), axis=-1)
    np.testing.assert_allclose(stretch_bands(quantiles, {}), quantiles)


def test_windows_without_a_target_calibrate_nothing():
    assert calibrate_bands(np.full((2, 3), np.nan), np.zeros((2, 3, len(LEVELS))), 4) == {}


def test_bands_are_named_by_what_they_cover():
    assert list(BANDS) == ["band_95", "band_80", "band_60", "band_40", "band_20"]


def test_windows_without_any_target_have_no_weight():
    quantiles = torch.randn(1, 1, 2, len(LEVELS), dtype=torch.float64)
    outputs = ScaledQuantiles(quantiles, torch.zeros(1, 1), torch.ones(1, 1))
    empty = batch_of(torch.full((1, 2), float("nan"), dtype=torch.float64))
    loss = QuantileLoss().of_outputs(outputs, empty)
    assert float(loss.loss) == 0 and loss.num_tokens == 0
