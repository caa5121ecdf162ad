"""Forecasts next to what came: one panel an origin."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from regard.errors import ShapeError
from regard.metrics.forecasts import LEVELS
from regard.plots import forecast_panels
from regard.plots.forecast_panels import ForecastPanel, draw_forecasts
from regard.plots.style import ACCENT, BAND, MUTED, SECOND, WIDE_BAND


def panel(history, horizon, *, title="demand", has_actual=True, has_times=True):
    """Make a forecast of a season with growing bands."""
    steps = np.arange(history + horizon)
    values = 100 + 20 * np.sin(steps / 4)
    normal = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    spread = 2 * np.sqrt(1 + np.arange(horizon))[:, None]
    return ForecastPanel(
        title=title,
        times=[f"2000-01-{1 + step // 24:02d} {step % 24:02d}:00" for step in steps]
        if has_times
        else [],
        history=values[:history],
        actual=values[history:] if has_actual else None,
        quantiles=values[history:, None] + spread * normal,
        levels=LEVELS,
    )


@pytest.mark.slow
def test_fourteen_origins_have_a_panel_each(drawn):
    svg = drawn(draw_forecasts, [panel(72, 24, title=f"origin {row}") for row in range(14)])
    assert {f"origin {row}" for row in range(14)} <= set(svg.texts)
    assert {"history", "what came", "median", "80 % band", "95 % band"} <= set(svg.texts)
    for color in (ACCENT, BAND, SECOND, WIDE_BAND):
        assert svg.count(color.light) >= 14
    assert "2000-01-04 00:00" in svg.texts  # the first step of the forecast


@pytest.mark.slow
def test_of_many_panels_some_are_shown_and_the_others_counted(drawn, monkeypatch):
    monkeypatch.setattr(forecast_panels, "_MOST_PANELS", 3)
    svg = drawn(draw_forecasts, [panel(10, 4, title=f"origin {row}") for row in range(99)])
    assert [text for text in svg.texts if text.startswith("origin ")] == [
        "origin 0",
        "origin 49",
        "origin 98",
    ]
    assert "3 of 99 forecasts" in svg.texts


def test_a_long_history_is_cut_to_its_last_horizons(drawn):
    svg = drawn(draw_forecasts, [panel(650, 24, has_times=False)])
    steps = [int(text.replace("−", "-")) for text in svg.texts if text.lstrip("+-−").isdigit()]
    assert min(step for step in steps if step < 60) >= -60
    assert "+1" in svg.texts


@pytest.mark.parametrize("history", [0, 1, 5])
@pytest.mark.parametrize("horizon", [1, 12])
def test_short_series_are_drawn(drawn, history, horizon):
    svg = drawn(draw_forecasts, [panel(history, horizon, has_actual=False)])
    assert "what came" not in svg.texts and "median" in svg.texts


def test_missing_values_and_foreign_titles_are_drawn(drawn):
    each = panel(30, 6, title="中文 $x_1$ " + "very long " * 30)
    each.history[10:14] = each.history[-1] = np.nan
    each.actual[2] = np.nan
    svg = drawn(draw_forecasts, [each])
    (title,) = [text for text in svg.texts if text.startswith("中文 $x_1$")]
    assert title.endswith("…")


def test_values_between_missing_ones_are_seen(drawn):
    forecast = panel(120, 48)
    history, actual = np.full(120, np.nan), np.full(48, np.nan)
    history[::3], actual[1::2] = forecast.history[::3], forecast.actual[1::2]
    svg = drawn(draw_forecasts, [replace(forecast, history=history, actual=actual)])
    dots = {color: f'fill: {color.light}; stroke: {color.light}"' for color in (MUTED, SECOND)}
    assert [svg.count(dot) for dot in dots.values()] == [40, 24]


def test_a_panel_of_one_value_without_spread_is_drawn(drawn):
    flat = ForecastPanel("flat", [], np.ones(3), np.ones(2), np.ones((2, len(LEVELS))), LEVELS)
    assert "flat" in drawn(draw_forecasts, [flat]).texts


def test_what_does_not_fit_together_is_refused(tmp_path):
    values = np.ones(3)
    with pytest.raises(ShapeError, match="quantiles: 9 levels, 11 expected"):
        ForecastPanel("a", [], values, None, np.ones((2, 9)), LEVELS)
    with pytest.raises(ShapeError, match="actual: 3 values, 2 expected"):
        ForecastPanel("a", [], values, values, np.ones((2, 11)), LEVELS)
    with pytest.raises(ShapeError, match="times: 4, 5 expected"):
        ForecastPanel("a", list("abcd"), values, None, np.ones((2, 11)), LEVELS)
    with pytest.raises(ShapeError, match="panels: none"):
        draw_forecasts([], tmp_path / "a.svg")
