"""Evaluation of a forecaster by rolling origins, next to forecasts without a trained model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.listing import list_first, pluralize, spell_number
from regard.data.readers.source import DataSource
from regard.data.time_series import TimeIndex, TimeSeries
from regard.errors import ConfigError, DataError
from regard.metrics import METRICS
from regard.metrics.bootstrap import PairedScore
from regard.metrics.forecasts import (
    LEVELS,
    ForecastScore,
    ForecastScores,
    PairedForecastScores,
    WindowErrors,
    compare_forecasts,
    measure_forecasts,
    score_forecasts,
    window_errors,
)
from regard.plots.forecast_panels import ForecastPanel, draw_forecasts
from regard.setup.evaluation_details import EvaluationDetails
from regard.setup.evaluation_report import (
    EvaluationOptions,
    EvaluationReport,
    score_interval,
)
from regard.setup.held_out import training_data
from regard.tasks.forecasting.data import read_forecast_data, read_series
from regard.tasks.forecasting.floor_comparison import (
    FEWEST_WINDOWS,
    MODEL_TITLE,
    SCORE_NAMES,
    FloorComparison,
    compare_with_best,
    format_score,
)
from regard.tasks.forecasting.floors import Floor, forecast_floors
from regard.tasks.forecasting.forecast_details import chart_by_step, chart_quantiles
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.forecasting.rolling_origins import (
    ForecastWindow,
    histories,
    rolling_origins,
    window_scales,
)
from regard.tasks.forecasting.scored_part import (
    ScoredPart,
    TrainingSeries,
    find_scored_part,
    steps_between,
)

_HISTORY, _FEWEST_SHOWN = 3, 32  # horizons and values of a history in a panel
_CONTEXT = 4  # windows or longest seasons of a history that a model is given
_FORECAST_TOGETHER = 1024  # windows
_NAMED_SERIES = 3  # in a line of the report
_SHOWN_FORECASTS = 6  # of the worst, on a page


class FloorScores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a forecaster that is not trained.

    Args:
        title: What it is, in words.
        mase: Mean absolute scaled error; None where no window has a scale.
        wql: Weighted quantile loss; None where every value is 0.
        coverage80: Values inside the 80 % band, in percent.
        seconds: Wall time of its fits and forecasts.
    """

    title: str
    mase: float | None
    wql: float | None
    coverage80: float | None
    seconds: float


class WorstForecast(msgspec.Struct, frozen=True, kw_only=True):
    """One of the worst windows.

    Args:
        series: Name of the series.
        time: Time of the first value that was forecast.
        mase: Mean absolute error of the median, in units of the scale; None without a scale.
        wql: Weighted quantile loss; None where every value is 0.
        coverage80: Values inside the 80 % band, in percent.
    """

    series: str
    time: str
    mase: float | None
    wql: float | None
    coverage80: float


class ForecastReport(EvaluationReport, frozen=True, kw_only=True):
    """The scores of a forecaster.

    Args:
        num_series: Number of series with a window.
        first_time: Time of the first value that is scored.
        last_time: Time of the last one.
        step: Distance of two values, in words.
        horizon: Steps ahead.
        season: Length of the season of MASE, in steps; 1 without one.
        scores: Scores of the model, with intervals over windows.
        model_seconds: Wall time of its forecasts.
        floor_scores: Scores of forecasters that are not trained, by name.
        against_best: The model against the best of them, by score.
        notes: What was left out.
        worst: The worst windows, worst first.
        comparison: Differences to the other model; None without one.
    """

    num_series: int
    first_time: str
    last_time: str
    step: str
    horizon: int
    season: int
    scores: ForecastScores
    model_seconds: float
    floor_scores: dict[str, FloorScores]
    against_best: dict[str, FloorComparison]
    notes: list[str]
    worst: list[WorstForecast]
    comparison: PairedForecastScores | None = None

    @property
    def num_rows(self) -> int:
        """Number of windows scored."""
        return self.scores.num_windows

    @property
    def intervals(self) -> dict[str, Any]:
        """The scores that exist, with intervals."""
        scores = {
            "mase": self.scores.mase,
            "wql": self.scores.wql,
            "coverage80": self.scores.coverage80,
            "coverage95": self.scores.coverage95,
        }
        return {
            name: score_interval(score.value, score.low, score.high)
            for name, score in scores.items()
            if score is not None
        }

    @property
    def floors(self) -> dict[str, float | None]:
        """MASE and WQL of forecasters that are not trained."""
        return {
            f"{name}_{score}": getattr(scores, score)
            for name, scores in self.floor_scores.items()
            for score in SCORE_NAMES
        }

    def floor_title(self, name: str) -> str:
        """Return what people read of a floor, whatever its score."""
        return self.floor_scores[name.rpartition("_")[0]].title

    @property
    def verdict(self) -> str:
        """The winner in each score."""
        against_best = [
            f"{METRICS[score].title}: {comparison.verdict}"
            for score, comparison in self.against_best.items()
        ]
        return "; ".join(against_best) or "no score can be compared"

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the worst windows, scores, floors and the comparison."""
        windows = pluralize(self.num_rows, "window")
        yield (
            "Data",
            f"{self.path}   {self.num_series:,} series, every {self.step}   {windows} of "
            f"{self.horizon:,} from {self.first_time} to {self.last_time}   model {self.model}",
        )
        for entry in self.worst:
            yield (
                "Worst",
                f"{entry.series}   {entry.time}   MASE {format_score(entry.mase)}   WQL "
                f"{format_score(entry.wql)}   80 % band covers {entry.coverage80:.0f} %",
            )
        for note in self.notes:
            yield "Note", note
        season = f"season {self.season:,}" if self.season > 1 else "no season"
        yield "MASE", f"{_with_interval(self.scores.mase)}   {season}"
        yield "WQL", f"{_with_interval(self.scores.wql)}   levels 0.1 to 0.9"
        yield "80 %", f"{_with_interval(self.scores.coverage80)} % of the values are in the band"
        yield "95 %", f"{_with_interval(self.scores.coverage95)} % of the values are in the band"
        yield from self._table()
        yield "Verdict", self.verdict
        if self.comparison is not None:
            for name, difference in (
                ("MASE", self.comparison.mase),
                ("WQL", self.comparison.wql),
            ):
                yield "Compare", self._describe_difference(name, difference)
        if self.scores.mase is not None:
            yield "Rule", self.scores.mase.signature

    def _table(self) -> Iterator[tuple[str, str]]:
        """Yield the scores of all forecasters, the model first, a line each."""
        own = FloorScores(
            title=MODEL_TITLE,
            mase=_value(self.scores.mase),
            wql=_value(self.scores.wql),
            coverage80=_value(self.scores.coverage80),
            seconds=self.model_seconds,
        )
        rows = [own, *self.floor_scores.values()]
        width = max(len(row.title) for row in rows)
        yield "Floors", f"{'':<{width}}     MASE      WQL   80 %   seconds"
        for row in rows:
            covered = "-" if row.coverage80 is None else f"{row.coverage80:.0f} %"
            yield (
                "",
                f"{row.title:<{width}}  {format_score(row.mase):>7}  {format_score(row.wql):>7}  "
                f"{covered:>5}  {row.seconds:>8.1f}",
            )

    def _describe_difference(self, name: str, score: PairedScore | None) -> str:
        """Return the difference to the other model in a score."""
        comparison = f"{self.model} against {self.other}: {name}"
        if score is None:
            return f"{comparison} is not compared: it takes two windows with a score"
        return (
            f"{comparison} {score.difference:+.3g} [{score.low:+.3g}, {score.high:+.3g}], "
            f"p = {score.p_value:.3f}"
        )


class RollingForecasts(msgspec.Struct, frozen=True, kw_only=True):
    """The forecasts of all windows, for a picture.

    Args:
        series: The series.
        windows: Windows of all series.
        quantiles: Quantiles of each window, ``[horizon, len(LEVELS)]``.
    """

    series: TimeSeries
    windows: list[ForecastWindow]
    quantiles: list[NDArray[np.float64]]

    def draw(self, path: str | Path) -> None:
        """Draw history, median, bands and what came, a panel a window; see `draw_forecasts`."""
        draw_forecasts(list(map(self.panel, range(len(self.windows)))), path)

    def panel(self, row: int) -> ForecastPanel:
        """Return the panel of a window, with the end of its history."""
        window, quantiles = self.windows[row], self.quantiles[row]
        horizon, index = len(quantiles), self.series.indices[window.series]
        num_shown = min(window.origin, max(_HISTORY * horizon, _FEWEST_SHOWN))
        first = window.origin - num_shown
        times = index.times(first, num_shown + horizon)
        name = f"{self.series.names[window.series]}   " if len(self.series) > 1 else ""
        return ForecastPanel(
            title=f"{name}{times[num_shown]}",
            times=times,
            history=self.series.values[window.series][first : window.origin],
            actual=window.actual,
            quantiles=quantiles,
            levels=LEVELS,
        )


class _Windows(msgspec.Struct, frozen=True, kw_only=True):
    """The windows that are scored, and their series.

    Args:
        part: The series.
        windows: Windows of all series.
        scales: Scale of each window, for MASE.
        season: Length of the season of MASE, in steps.
        other: The series as the other model reads them; None without one.
        shifts: Steps by which each of its series begins before that of `part`.
    """

    part: ScoredPart
    windows: list[ForecastWindow]
    scales: list[float]
    season: int
    other: ScoredPart | None
    shifts: list[int]

    @property
    def of_other(self) -> list[ForecastWindow]:
        """The windows in the series of the other model."""
        return [
            msgspec.structs.replace(window, origin=window.origin + self.shifts[window.series])
            for window in self.windows
        ]

    def errors(self, quantiles: Sequence[NDArray[np.float64]]) -> WindowErrors:
        """Return the errors of forecasts of the windows."""
        return window_errors([window.actual for window in self.windows], quantiles, self.scales)


def evaluate_forecasts(
    forecaster: Forecaster,
    data: DataSource,
    options: EvaluationOptions,
    other: Forecaster | None = None,
) -> ForecastReport:
    """Return the scores of a forecaster by rolling origins, a horizon apart, and floors.

    Args:
        forecaster: The model.
        data: The series.
        options: How it is evaluated.
        other: Another model to compare with.

    Raises:
        ConfigError: The other model forecasts other series, or fewer steps ahead.
        DataError: The file cannot be read, or has nothing that the model has not seen.
    """
    horizon = forecaster.horizon
    scored = _find_windows(forecaster, data, options, other)
    series, windows = scored.part.series, scored.windows
    start = time.monotonic()
    quantiles = _forecast(forecaster, series, windows, horizon)
    errors = scored.errors(quantiles)
    seconds = time.monotonic() - start
    comparison = None
    if other is not None and scored.other is not None:
        forecasts = _forecast(other, scored.other.series, scored.of_other, horizon)
        comparison = compare_forecasts(errors, scored.errors(forecasts), scored.season)
    seasons = forecaster.config.forecast.seasons or ()
    floors, notes = forecast_floors(series, windows, scored.scales, seasons, horizon)
    scores = score_forecasts(errors, scored.season)
    first, last = _first_and_last_time(series, windows, horizon)
    picture = RollingForecasts(series=series, windows=windows, quantiles=quantiles)
    rows = _worst_rows(errors, options.num_worst)
    details = None
    if options.has_details:
        by_step = chart_by_step(windows, quantiles, scored.scales)
        details = EvaluationDetails(
            charts=[] if by_step is None else [by_step],
            calibrations=[chart_quantiles(windows, quantiles)],
            forecasts=[picture.panel(row) for row in rows[:_SHOWN_FORECASTS]],
        )
    return ForecastReport(
        **options.report_fields(),
        path=data.path,
        picture=picture,
        details=details,
        num_series=len({window.series for window in windows}),
        first_time=first,
        last_time=last,
        step=str(series.indices[0].step),
        horizon=horizon,
        season=scored.season,
        scores=scores,
        model_seconds=seconds,
        floor_scores={name: _floor_scores(floor) for name, floor in floors.items()},
        against_best=compare_with_best(errors, floors, scored.season),
        notes=[*scored.part.notes, *_window_notes(scored, scores), *notes],
        worst=[_describe_window(scored, errors, row) for row in rows],
        comparison=comparison,
    )


def _find_windows(
    forecaster: Forecaster, data: DataSource, options: EvaluationOptions, other: Forecaster | None
) -> _Windows:
    """Return the windows that no model has seen.

    Raises:
        ConfigError: The other model forecasts other series, or fewer steps ahead.
        DataError: The file cannot be read, or has no window of the horizon.
    """
    horizon = forecaster.horizon
    part, other_part = _read_part(forecaster, data, options, horizon), None
    first, shifts = part.first, [0] * len(part.first)
    if other is not None:
        if other.horizon < horizon:
            raise ConfigError(
                f"{options.model} forecasts {horizon:,} steps, {options.other} {other.horizon:,}.  "
                "Compare the one of fewer steps with the other."
            )
        other_part = _read_part(other, data, options, horizon)
        if other_part.series.names != part.series.names:
            raise ConfigError(
                f"{options.model} and {options.other} forecast other series of {data.path}: "
                f"{list_first(part.series.names, _NAMED_SERIES)}, and "
                f"{list_first(other_part.series.names, _NAMED_SERIES)}."
            )
        shifts = [
            steps_between(index, own) or 0
            for index, own in zip(other_part.series.indices, part.series.indices, strict=True)
        ]
        of_other = [end - shift for end, shift in zip(other_part.first, shifts, strict=True)]
        first = [max(ends) for ends in zip(first, of_other, strict=True)]
    windows = rolling_origins(part.series, first, horizon)
    if not windows:
        raise DataError(
            f"{data.path}: of the values that were not seen in training, no {horizon:,} in a row "
            "have one that is not missing, and a history.  Name a file with more values."
        )
    season = max(forecaster.config.forecast.seasons or (), default=1)
    return _Windows(
        part=part,
        windows=windows,
        scales=window_scales(part.series, windows, season),
        season=season,
        other=other_part,
        shifts=shifts,
    )


def _read_part(
    forecaster: Forecaster, data: DataSource, options: EvaluationOptions, horizon: int
) -> ScoredPart:
    """Read the series of a file as a model needs them, and find the part that is scored."""
    config = forecaster.config
    trained = training_data(read_forecast_data, config)
    path = Path(data.path).resolve()
    if trained is not None and not data.is_stream and path == Path(trained.path).resolve():
        # The file has been read.
        series = msgspec.structs.replace(trained.test, path=data.path)
    else:
        series = read_series(data, config.data, config.forecast).series
    return find_scored_part(
        series,
        None if trained is None else TrainingSeries(series=trained.test, ends=trained.valid_ends),
        forecaster.model.config.window,
        horizon,
        keep_seen=options.allow_overlap,
    )


def _forecast(
    forecaster: Forecaster, series: TimeSeries, windows: Sequence[ForecastWindow], horizon: int
) -> list[NDArray[np.float64]]:
    """Return the forecasts of windows, some at a time: each has a history of its own.

    A long history is cut to the last windows of the model, and to the seasons by which missing
    values are imputed.
    """
    seasons = forecaster.config.forecast.seasons or ()
    most = _CONTEXT * max(forecaster.model.config.window, *seasons, 1)
    quantiles: list[NDArray[np.float64]] = []
    for start in range(0, len(windows), _FORECAST_TOGETHER):
        chunk = histories(series, windows[start : start + _FORECAST_TOGETHER], most)
        quantiles += forecaster.quantiles(chunk, horizon)
    return quantiles


def _floor_scores(floor: Floor) -> FloorScores:
    """Return the scores of a floor, without intervals."""
    measured = measure_forecasts(floor.errors)
    return FloorScores(
        title=floor.title,
        mase=measured.mase,
        wql=measured.wql,
        coverage80=measured.coverage80,
        seconds=floor.seconds,
    )


def _window_notes(scored: _Windows, scores: ForecastScores) -> list[str]:
    """Say that windows are few, and name the series that MASE leaves out."""
    notes = []
    if 1 < scores.num_windows < FEWEST_WINDOWS:
        number = spell_number(scores.num_windows)
        notes.append(f"{number} windows are few: intervals are narrower than they should be")
    if scores.num_unscaled:
        pairs = zip(scored.windows, scored.scales, strict=True)
        rows = dict.fromkeys(window.series for window, scale in pairs if not scale > 0)
        names = list_first([scored.part.series.names[row] for row in rows], _NAMED_SERIES)
        windows = pluralize(scores.num_unscaled, "window")
        notes.append(
            f"MASE leaves out {windows} of series without a scale, whose "
            f"history repeats itself exactly or is not longer than the season: {names}"
        )
    return notes


def _worst_rows(errors: WindowErrors, count: int) -> list[int]:
    """Return the windows with the largest scaled error; those without one are last."""
    order = np.argsort(-np.nan_to_num(errors.scaled_error, nan=-1.0), kind="stable")
    return order[:count].tolist()


def _describe_window(scored: _Windows, errors: WindowErrors, row: int) -> WorstForecast:
    """Return the scores of a window."""
    series = scored.part.series
    window, size = scored.windows[row], errors.size[row]
    scaled = errors.scaled_error[row]
    return WorstForecast(
        series=series.names[window.series],
        time=series.indices[window.series].times(window.origin, 1)[0],
        mase=None if np.isnan(scaled) else float(scaled),
        wql=float(errors.quantile_loss[row] / size) if size > 0 else None,
        coverage80=float(100 * errors.num_in_80[row] / errors.num_values[row]),
    )


def _first_and_last_time(
    series: TimeSeries, windows: Sequence[ForecastWindow], horizon: int
) -> tuple[str, str]:
    """Return the times of the first and the last value that are scored, of all series."""

    def moment(position: tuple[TimeIndex, int]) -> int:
        index, number = position
        if index.step.unit == "row":
            return int(index.start) + index.step.count * number
        return int(index.datetimes(number, 1)[0].astype(np.int64))

    def text(position: tuple[TimeIndex, int]) -> str:
        return position[0].times(position[1], 1)[0]

    indices = [series.indices[window.series] for window in windows]
    origins = [window.origin for window in windows]
    ends = [origin + horizon - 1 for origin in origins]
    first = min(zip(indices, origins, strict=True), key=moment)
    last = max(zip(indices, ends, strict=True), key=moment)
    return text(first), text(last)


def _value(score: ForecastScore | None) -> float | None:
    return None if score is None else score.value


def _with_interval(score: ForecastScore | None) -> str:
    """Return a score with its interval, where there is one."""
    if score is None or score.low is None or score.high is None:
        return format_score(_value(score))
    return f"{format_score(score.value)} [{format_score(score.low)}, {format_score(score.high)}]"
