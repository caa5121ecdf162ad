"""Evaluation of forecasters: scores, floors, the verdict, the worst windows, other models."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from regard.data.readers.source import DataSource
from regard.data.time_series import TimeIndex, TimeSeries, TimeStep
from regard.errors import ConfigError, DataError
from regard.metrics import forecast_baselines
from regard.metrics.forecast_baselines import seasonal_naive
from regard.metrics.forecasts import LEVELS
from regard.plots.forecast_panels import ForecastPanel
from regard.setup.evaluation_report import EvaluationOptions
from regard.tasks.forecasting import evaluation
from regard.tasks.forecasting.evaluation import ForecastReport, evaluate_forecasts
from regard.tasks.forecasting.floor_comparison import FloorComparison
from regard.tasks.forecasting.predictor import Forecaster

NAN = float("nan")
SEASON = HORIZON = 6
SOURCE = cast(DataSource, SimpleNamespace(path="test.csv", is_stream=False))


def series_of(**values: NDArray[np.float64]) -> TimeSeries:
    """Return monthly series by name."""
    index = TimeIndex(start="2000-01-01T00:00:00", step=TimeStep(unit="month"))
    return TimeSeries(
        path="test.csv",
        names=list(values),
        values=list(values.values()),
        indices=[index] * len(values),
        known=[np.zeros((len(array), 0)) for array in values.values()],
        observed=[np.zeros((len(array), 0)) for array in values.values()],
    )


def wave(length: int, seed: int = 0, noise: float = 1.0) -> NDArray[np.float64]:
    """Return a season of 6 steps with drawn noise."""
    season = 10 * np.sin(2 * np.pi * np.arange(length) / SEASON)
    return season + noise * np.random.default_rng(seed).normal(size=length)


def seen_data(series: TimeSeries) -> SimpleNamespace:
    """Return training data that was seen whole."""
    ends = [len(values) for values in series.values]
    return SimpleNamespace(path="train.csv", test=series, valid_ends=ends)


class Oracle:
    """A forecaster that knows the season, and adds a constant to it.

    Args:
        error: The constant.
        horizon: Steps ahead.
        season: In its settings; 1 for none.
    """

    def __init__(self, error: float = 0.0, horizon: int = HORIZON, season: int = SEASON) -> None:
        self.error, self.horizon = error, horizon
        self.model = SimpleNamespace(config=SimpleNamespace(window=24))
        forecast = SimpleNamespace(seasons=(season,) if season > 1 else ())
        self.config = SimpleNamespace(forecast=forecast, data=None)
        self.histories: list[TimeSeries] = []
        self.origins: list[int] = []

    def quantiles(self, series: TimeSeries, horizon: int) -> list[NDArray[np.float64]]:
        self.histories.append(series)
        months = [
            int(index.start[:4]) * 12 + int(index.start[5:7]) - 24001 for index in series.indices
        ]
        ends = [first + len(values) for first, values in zip(months, series.values, strict=True)]
        self.origins += ends
        steps = (np.arange(end, end + horizon) for end in ends)
        medians = (10 * np.sin(2 * np.pi * step / SEASON) + self.error for step in steps)
        return [median[:, None] + 3 * (np.array(LEVELS) - 0.5) for median in medians]


@pytest.fixture(autouse=True)
def without_mstl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_baselines, "find_spec", lambda name: None)


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that evaluates forecasters on series, where some were seen."""

    def run(
        series: TimeSeries,
        *models: Oracle,
        seen: TimeSeries | None = None,
        **options: Any,
    ) -> ForecastReport:
        data = None if seen is None else seen_data(seen)
        monkeypatch.setattr(evaluation, "training_data", lambda read, config: data)
        monkeypatch.setattr(
            evaluation, "read_series", lambda path, data, forecast: SimpleNamespace(series=series)
        )
        settings = EvaluationOptions(
            model="ours", other="theirs" if models[1:] else None, **options
        )
        first, *others = (cast(Forecaster, model) for model in models or (Oracle(),))
        return evaluate_forecasts(first, SOURCE, settings, *others)

    return run


def test_scores_are_of_what_was_not_seen(evaluate: Any) -> None:
    values = wave(120)
    model = Oracle()
    report = evaluate(series_of(a=values), model, seen=series_of(a=values[:100]))
    assert report.num_rows == 3
    assert model.origins == [100, 106, 112]
    expected = 10 * np.sin(2 * np.pi * np.arange(100, 118) / SEASON)
    scale = np.abs(values[6:100] - values[:94]).mean()
    error = np.abs(values[100:118] - expected).reshape(3, 6).mean(axis=1) / scale
    assert report.scores.mase.value == pytest.approx(error.mean())
    assert (report.first_time, report.last_time) == ("2008-05-01", "2009-10-01")


def test_floors_are_in_the_same_windows(evaluate: Any) -> None:
    values = wave(120)
    report = evaluate(series_of(a=values), Oracle(), seen=series_of(a=values[:100]))
    copies = np.array([seasonal_naive(values[:end], 6, 6)[:, 5] for end in (100, 106, 112)])
    scale = np.abs(values[6:100] - values[:94]).mean()
    error = np.abs(values[100:118].reshape(3, 6) - copies).mean() / scale
    assert report.floors["seasonal_naive_6_mase"] == pytest.approx(error)
    assert set(report.floors) == {
        "naive_mase",
        "naive_wql",
        "seasonal_naive_6_mase",
        "seasonal_naive_6_wql",
        "ridge_mase",
        "ridge_wql",
    }


def test_the_verdict_names_the_model_where_it_wins(evaluate: Any) -> None:
    report = evaluate(series_of(a=wave(200)), Oracle())
    mase, wql = report.verdict.split("; ")
    assert mase.startswith("MASE: the model is best, ")
    assert wql.startswith("WQL: the model is best, ")
    assert "of ridge on 24 lags" in wql
    assert report.against_best["wql"].high < 0


def test_the_verdict_names_the_floor_where_it_wins(evaluate: Any) -> None:
    report = evaluate(series_of(a=wave(200)), Oracle(error=20.0))
    assert report.verdict.startswith("MASE: ridge on 24 lags is best, ")
    assert report.verdict.endswith("of the model")
    assert report.against_best["mase"].low > 0


def test_a_difference_that_may_be_chance_is_said(evaluate: Any) -> None:
    sides = {"floor": "ridge", "title": "ridge", "value": 0.5, "other": 0.6}
    uncertain = FloorComparison(**sides, low=-0.3, high=0.1, num_windows=40)
    assert uncertain.verdict == "the model is best, 0.5 against 0.6 of ridge (may be chance)"
    few = FloorComparison(**sides, low=-0.3, high=-0.1, num_windows=5)
    assert few.verdict.endswith("of ridge (five windows: may be chance)")
    assert FloorComparison(**sides, low=-0.3, high=-0.1, num_windows=6).verdict.endswith("ridge")
    values = wave(106)
    report = evaluate(series_of(a=values), Oracle(), seen=series_of(a=values[:100]))
    assert report.num_rows == 1
    assert "(one window: may be chance)" in report.verdict
    assert report.intervals["mase"]["low"] is None


@pytest.mark.slow
def test_intervals_of_few_windows_are_said_to_be_too_narrow(evaluate: Any) -> None:
    def notes(length: int) -> list[str]:
        values = wave(length)
        return evaluate(series_of(a=values), Oracle(), seen=series_of(a=values[:100])).notes

    assert "five windows are few: intervals are narrower than they should be" in notes(130)
    assert not any("few" in note for note in notes(136) + notes(106))


def test_another_model_is_compared_on_the_same_windows(evaluate: Any) -> None:
    ours, theirs = Oracle(), Oracle(error=5.0, horizon=12)
    report = evaluate(series_of(a=wave(200)), ours, theirs)
    assert report.comparison.mase.difference < -1
    assert report.comparison.wql.p_value < 0.01
    lengths = [[len(values) for values in model.histories[0].values] for model in (ours, theirs)]
    assert lengths[0] == lengths[1]
    assert ("Compare", "ours against theirs") in [(t, x[:19]) for t, x in report.lines()]


@pytest.mark.slow
def test_windows_are_those_that_neither_model_has_seen(
    evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = wave(120)
    ours, theirs = Oracle(), Oracle()
    reads = {
        id(ours.config): series_of(a=values[:90]),
        id(theirs.config): series_of(a=values[:107]),
    }
    evaluate(series_of(a=values), ours)  # set what is read
    monkeypatch.setattr(
        evaluation,
        "training_data",
        lambda read, config: seen_data(reads[id(config)]),
    )
    settings = EvaluationOptions(model="ours", other="theirs")
    report = evaluate_forecasts(cast(Forecaster, ours), SOURCE, settings, cast(Forecaster, theirs))
    assert report.num_rows == 2
    assert theirs.origins == [107, 113]


def test_another_model_of_fewer_steps_is_refused(evaluate: Any) -> None:
    with pytest.raises(ConfigError, match="ours forecasts 6 steps, theirs 3"):
        evaluate(series_of(a=wave(100)), Oracle(), Oracle(horizon=3))


def test_the_worst_windows_are_first(evaluate: Any) -> None:
    values = wave(120, noise=0.1)
    values[106:112] += 50
    report = evaluate(series_of(a=values), Oracle(), seen=series_of(a=values[:100]), num_worst=2)
    assert [entry.time for entry in report.worst] == ["2008-11-01", "2009-05-01"] or (
        report.worst[0].time == "2008-11-01"
    )
    assert len(report.worst) == 2
    assert report.worst[0].coverage80 == 0
    assert report.worst[0].mase > report.worst[1].mase


def test_series_without_a_scale_are_named_and_left_out_of_mase(evaluate: Any) -> None:
    series = series_of(flat=np.full(60, 3.0), a=wave(60), brief=wave(12))
    report = evaluate(series, Oracle())
    assert report.scores.num_unscaled == 7
    note = next(note for note in report.notes if note.startswith("MASE leaves out"))
    assert "7 windows" in note
    assert note.endswith("flat, brief")
    assert [entry.series for entry in report.worst][-1] in ("flat", "brief")


def test_values_of_zero_have_no_weighted_loss_but_a_report(evaluate: Any) -> None:
    report = evaluate(series_of(a=np.zeros(60)), Oracle())
    assert set(report.intervals) == {"coverage80", "coverage95"}
    assert set(report.floors.values()) == {None}
    assert report.verdict == "no score can be compared"
    assert dict(report.lines())["MASE"].startswith("-")


def test_missing_and_negative_values_are_scored_as_far_as_they_are_known(evaluate: Any) -> None:
    values = wave(300) - 500
    values[np.random.default_rng(0).random(300) < 0.3] = NAN
    values[30:36] = NAN
    report = evaluate(series_of(a=values), Oracle(error=-500))
    assert report.scores.num_values == int((~np.isnan(values[24:300])).sum())
    assert report.num_rows == 45
    assert report.scores.wql.value < 0.01


def test_nothing_but_missing_values_is_refused(evaluate: Any) -> None:
    values = wave(120)
    values[100:] = NAN
    with pytest.raises(DataError, match="one that is not missing"):
        evaluate(series_of(a=values), Oracle(), seen=series_of(a=values[:100]))


@pytest.mark.slow
def test_two_hundred_series_of_different_lengths_are_scored_quickly(evaluate: Any) -> None:
    lengths = np.random.default_rng(3).integers(1, 40, size=200)
    series = series_of(**{f"s{row}": wave(size, row) for row, size in enumerate(lengths.tolist())})
    report = evaluate(series, Oracle())
    assert report.num_series == int((lengths > HORIZON).sum())
    note = next(note for note in report.notes if "fewer than 6 values" in note)
    assert note.startswith(f"{(lengths <= HORIZON).sum()} series have")


def test_the_report_is_json_with_the_names_of_every_report(evaluate: Any) -> None:
    report = evaluate(series_of(a=wave(200)), Oracle(), Oracle(error=1.0))
    fields = json.loads(msgspec.json.encode(report.json_fields()))
    assert set(fields["scores"]) == {"mase", "wql", "coverage80", "coverage95"}
    assert set(fields["scores"]["mase"]) == {"value", "low", "high"}
    assert fields["rows"] == report.num_rows
    assert fields["floors"]["ridge_mase"] == pytest.approx(report.floor_scores["ridge"].mase)
    assert fields["worst"][0]["series"] == "a"
    assert fields["comparison"]["mase"]["difference"] < 0


def test_lines_have_titles_that_fit_and_a_table_of_all_forecasters(evaluate: Any) -> None:
    lines = list(evaluate(series_of(a=wave(200)), Oracle(season=1)).lines())
    assert max(len(title) for title, _ in lines) <= 7
    table = [text for title, text in lines if title == ""]
    assert [row.split("  ")[0] for row in table] == [
        "the model",
        "the copy of the last value",
        "ridge on 24 lags",
    ]
    assert len({len(row) for row in table}) == 1
    assert "no season" in dict(lines)["MASE"]


def test_windows_are_forecast_some_at_a_time_from_the_ends_of_their_histories(
    evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_FORECAST_TOGETHER", 5)
    model = Oracle()
    values = wave(160)
    report = evaluate(series_of(a=values, b=wave(50, seed=1)), model)
    assert [len(chunk) for chunk in model.histories] == [5, 5, 5, 5, 5, 1]
    lengths = [len(history) for chunk in model.histories for history in chunk.values]
    assert max(lengths) == 4 * 24
    np.testing.assert_array_equal(model.histories[4].values[0], values[48:144])
    assert report.num_rows == 26


def test_the_picture_has_a_panel_for_each_window(
    evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[ForecastPanel]] = {}
    monkeypatch.setattr(
        evaluation, "draw_forecasts", lambda panels, path: drawn.update({path: panels})
    )
    values = wave(120)
    report = evaluate(series_of(a=values, b=wave(40, 1)), Oracle(), seen=series_of(a=values[:100]))
    report.draw("rolling.svg")
    panels = drawn["rolling.svg"]
    assert [panel.title for panel in panels[:2]] == ["a   2008-05-01", "a   2008-11-01"]
    assert len(panels) == report.num_rows
    np.testing.assert_array_equal(panels[0].history, values[68:100])
    np.testing.assert_array_equal(panels[0].actual, values[100:106])
    assert panels[0].times[32] == "2008-05-01"


def test_a_report_says_whether_the_loss_rose(evaluate: Any) -> None:
    for rose in (False, True):
        report = evaluate(series_of(a=wave(60)), loss_rose=rose)
        assert report.json_fields()["loss_rose"] is rose
