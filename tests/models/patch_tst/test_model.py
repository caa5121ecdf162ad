"""The patched Transformer: scaling, quantiles that rise, what it reads, and its linear path."""

from __future__ import annotations

import pytest
import torch

from regard.errors import ShapeError
from regard.models import PatchTst, PatchTstConfig
from regard.models.patch_tst.model import SeriesInputs

SIZES = {
    "window": 8,
    "horizon": 3,
    "patch": 2,
    "scaled_steps": 8,
    "num_layers": 1,
    "dim": 8,
    "num_heads": 2,
    "hidden_dim": 8,
}


def build(**changes) -> PatchTst:
    torch.manual_seed(0)
    model = PatchTst(PatchTstConfig(**{**SIZES, **changes})).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def windows(number: int = 4) -> torch.Tensor:
    return torch.randn(number, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_quantiles_rise_with_their_level():
    quantiles = build(num_members=2)(windows())
    assert quantiles.shape == (4, 3, 11)
    assert (quantiles.diff(dim=-1) > 0).all()


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, -5.0), (1e-3, 7.0), (1.0, 1e9)])
def test_a_series_in_other_units_has_the_same_forecast_in_these_units(factor, shift):
    model, values = build(), windows()
    expected = model(values) * factor + shift
    found = model(values * factor + shift)
    assert float((found - expected).abs().max() / factor) < 1e-4  # float32 within the model


def test_a_negative_series_is_forecast_like_any_other():
    quantiles = build()(windows() - 100)
    assert quantiles.isfinite().all()
    assert float(quantiles.mean()) < -90


def test_a_constant_history_is_forecast_near_its_value():
    quantiles = build()(torch.full((1, 8), 5.0, dtype=torch.float64))
    assert float((quantiles - 5).abs().max()) < 1e-3


def test_a_missing_value_does_not_change_the_scale():
    model, values = build(), windows()
    is_missing = torch.zeros_like(values, dtype=torch.bool)
    is_missing[:, 3] = True
    others = values.clone()
    others[:, 3] = 1e6
    means = [model.scale(x, is_missing)[1:] for x in (values, others)]
    torch.testing.assert_close(means[0], means[1])


def test_a_window_without_any_value_is_finite():
    values = torch.zeros(1, 8, dtype=torch.float64)
    assert build()(values, torch.ones_like(values, dtype=torch.bool)).isfinite().all()


def test_the_last_steps_alone_scale_where_they_have_values():
    model = build(scaled_steps=2)
    values = torch.tensor([[0.0] * 6 + [10.0, 12.0]], dtype=torch.float64)
    _, mean, scale = model.scale(values, torch.zeros_like(values, dtype=torch.bool))
    assert (float(mean), float(scale)) == (11.0, 1.0)
    is_missing = torch.tensor([[False] * 6 + [True, True]])
    _, mean, _ = model.scale(values + 1, is_missing)
    assert float(mean) == 1.0


def test_what_is_known_ahead_changes_the_forecast_of_its_patch():
    model = build(num_known=1)
    known = torch.zeros(4, 11, 1)
    before = model(windows(), known=known)
    known[:, 10] = 3.0
    assert not torch.allclose(model(windows(), known=known)[:, 2], before[:, 2], atol=1e-4)


def test_an_observed_column_is_read_in_its_own_scale():
    model = build(num_observed=1)
    observed = torch.randn(4, 8, 1)
    first = model(windows(), observed=observed)
    torch.testing.assert_close(
        model(windows(), observed=1000 * observed + 7), first, atol=1e-4, rtol=1e-4
    )
    assert not torch.allclose(model(windows(), observed=observed.flip(1)), first, atol=1e-4)


def test_the_calendar_of_the_wrong_length_is_refused():
    with pytest.raises(ShapeError, match=r"calendar is \[4, 8, 2\]; \[4, 6, 2\]"):
        build(num_calendar=2)(windows(), calendar=torch.zeros(4, 8, 2))


def test_before_training_the_linear_path_is_the_median():
    model = PatchTst(PatchTstConfig(**SIZES)).eval().requires_grad_(False)
    with torch.no_grad():
        model.linear_paths()[0].weight[:, -1] = 1.0  # copy the last value
    values = windows()
    torch.testing.assert_close(
        model(values)[..., 5], values[:, -1:].expand(-1, 3), atol=1e-5, rtol=0
    )


def test_without_a_linear_path_there_is_none():
    assert build(has_linear=False).linear_paths() == []


def test_an_ensemble_is_the_mean_of_its_members():
    model = build(num_members=2)
    scaled = model.scaled(SeriesInputs(windows()))
    mean = scaled.quantiles.mean(0) * scaled.scale[..., None] + scaled.mean[..., None]
    torch.testing.assert_close(model(windows()), mean)
    assert not torch.allclose(scaled.quantiles[0], scaled.quantiles[1])


def test_gradients_of_the_history_are_exact_to_second_order():
    model = build(window=4, horizon=1).double()
    values = windows(1)[:, :4].requires_grad_()
    assert torch.autograd.gradcheck(model, (values,))
    assert torch.autograd.gradgradcheck(model, (values,))


def test_an_even_number_of_levels_has_no_median():
    with pytest.raises(ValueError, match="num_levels must be odd"):
        PatchTstConfig(num_levels=10)


def test_an_observed_column_of_large_numbers_keeps_its_differences():
    model = build(num_observed=1)
    observed = torch.randn(4, 8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = model(windows(), observed=observed + 1e9)
    torch.testing.assert_close(found, model(windows(), observed=observed), atol=1e-4, rtol=1e-4)


def test_an_observed_column_that_is_constant_but_for_rounding_says_nothing():
    model = build(num_observed=1)
    constant = torch.full((4, 8, 1), 1 / 3, dtype=torch.float64)
    found = model(windows(), observed=constant)
    assert torch.equal(found, model(windows(), observed=torch.zeros_like(constant)))


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # PyTorch's own
def test_the_scale_of_a_history_is_that_of_its_last_steps_where_it_is_linearized():
    model = build(window=16, scaled_steps=4)
    values = torch.arange(16.0).view(1, 16).square()
    is_missing = torch.zeros(1, 16, dtype=torch.bool)

    def scaled(factor):
        z, _, scale = model.scale(values, is_missing)
        return factor * z + scale

    factor = torch.ones(())
    expected = torch.func.jvp(scaled, (factor,), (factor,))
    out, push = torch.func.linearize(scaled, factor)
    torch.testing.assert_close((out, push(factor)), expected)
