"""Methods of attribution compared by their faithfulness over many rows, with paired bootstrap."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.listing import pluralize
from regard.errors import ConfigError, DataError
from regard.explain.attribution import (
    DEFAULT_METHODS,
    METHODS,
    Attribution,
    Budget,
    method_names,
)
from regard.explain.attribution.method import TooLongError
from regard.explain.faithfulness.evaluated_rows import OpenRow
from regard.explain.faithfulness.measure import FaithfulnessMeter, Measures, measurable_outputs
from regard.explain.prediction import ClassPrediction, Prediction
from regard.explain.selected_outputs import SelectedOutputs
from regard.metrics.bootstrap import compare_means, mean_with_interval

MOST_OUTPUTS = 2  # of a row; more of them say less than more rows
FLOOR = "random"
_MEASURES = (
    "comprehensiveness",
    "sufficiency",
    "tau",
    "soft_comprehensiveness",
    "soft_sufficiency",
    "deletion_area",
    "insertion_area",
)
_NO_SHARE = ("tau", "soft_comprehensiveness", "soft_sufficiency")  # the same in any unit


class Interval(msgspec.Struct, frozen=True):
    """A mean over rows with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class MethodFaithfulness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is measured of a method, means over rows; see `Measures`.

    Args:
        title: The method's name for a reader.
        comprehensiveness: In `MethodComparison.unit`; higher is better.
        sufficiency: Lower is better.
        advantage: Comprehensiveness minus sufficiency, by which methods are ranked.
        tau: Rank correlation with leave-one-out, -1 to 1; None where no row has one.
        soft_comprehensiveness: Soft-NC, 0 to 1; higher is better. None where not measured.
        soft_sufficiency: Soft-NS, 0 to 1; higher is better. None where not measured.
        deletion_area: Lower is better.
        insertion_area: Higher is better.
        behind_best: Advantage of the best method minus that of this one, on the same rows.
        p_behind_best: Probability of a difference as large between equal methods.
        above_random: Advantage of this method minus that of random scores.
        p_above_random: Probability of a difference as large between equal methods.
        seconds: Seconds that a row takes, for the attribution alone.
    """

    title: str
    comprehensiveness: Interval
    sufficiency: Interval
    advantage: Interval
    tau: Interval | None
    soft_comprehensiveness: Interval | None = None
    soft_sufficiency: Interval | None = None
    deletion_area: Interval
    insertion_area: Interval
    behind_best: Interval | None = None
    p_behind_best: float | None = None
    above_random: Interval | None = None
    p_above_random: float | None = None
    seconds: float = 0.0


class MethodComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Methods on the same rows.

    Args:
        rows: That were measured.
        unit: Unit of comprehensiveness, sufficiency and areas: ``%`` of probability, or that of the
            outputs.
        outputs: Measured outputs of all rows together.
        methods: By name, the best first.
        best: The method with the largest advantage, random scores left out.
        skipped: Rows that could not be explained.
        refused: Methods that cannot explain this model, with the reason.
    """

    rows: int
    unit: str
    outputs: int
    methods: dict[str, MethodFaithfulness]
    best: str
    skipped: int = 0
    refused: dict[str, str] = {}

    def lines(self) -> Iterator[str]:
        """Yield the comparison as a table in plain text, the best method first."""
        skipped = f", {self.skipped:,} left out" if self.skipped else ""
        yield (
            f"{pluralize(self.rows, 'row')}, {pluralize(self.outputs, 'output')}{skipped}; means "
            f"with 95 % bootstrap intervals, in {self.unit}"
        )
        header = ("method", "comprehensiveness", "sufficiency", "difference", "tau", "behind best")
        table = [header, *(self._cells(name) for name in self.methods)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for cells in table:
            yield "  ".join(map(str.ljust, cells, widths)).rstrip()
        for name, reason in self.refused.items():
            yield f"{name}: {reason}"

    def _cells(self, name: str) -> tuple[str, ...]:
        """Return a method's row of the table."""
        method = self.methods[name]
        behind = "best" if name == self.best else ""
        if method.behind_best is not None and method.p_behind_best is not None:
            behind = f"{_format(method.behind_best)}, p = {method.p_behind_best:.3f}"
        return (
            name,
            _format(method.comprehensiveness),
            _format(method.sufficiency),
            _format(method.advantage),
            "-" if method.tau is None else _format(method.tau),
            behind,
        )


_SCALES = {"%": 100.0}  # of fractions, by the unit in which they are given


def _format(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def compare_methods(
    rows: Sequence[OpenRow],
    methods: Iterable[str] | None = None,
    *,
    budget: Budget | None = None,
    most_outputs: int = MOST_OUTPUTS,
    is_soft: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> MethodComparison:
    """Measure methods on rows; random scores are always among them.

    A method wins that has the largest comprehensiveness minus sufficiency: what is lost without its
    highest scores, less what is lost with these alone. Kendall's tau has no say: occlusion is
    leave-one-out itself.

    Args:
        rows: Open the predictions, see `open_rows`.
        methods: Their names; None is those that are computed where none is named.
        budget: Limit of memory, with the callback of progress.
        most_outputs: Outputs of a row that are explained and measured, evenly spread.
        is_soft: Whether the soft measures are computed, too, which takes half as long again.
        on_progress: Called with the number of rows done and of all rows.

    Returns:
        The methods, the best first.

    Raises:
        ConfigError: A name is unknown.
        DataError: No row can be explained.
    """
    names = method_names([*(DEFAULT_METHODS if methods is None else methods), FLOOR])
    measured = _Measured(
        names,
        Budget() if budget is None else Budget(budget.memory),
        most_outputs=most_outputs,
        is_soft=is_soft,
    )
    for index, open_row in enumerate(rows):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of texts that are cut off
                prediction = open_row()
        except (ConfigError, DataError):
            measured.skipped += 1
        else:
            measured.add(prediction)
        if on_progress is not None:
            on_progress(index + 1, len(rows))
    if not measured.num_rows:
        raise DataError("no row has an output that can be explained.")
    return measured.compare()


class _Measured:
    """What was measured of methods, row by row.

    Args:
        names: Names of the methods.
        budget: Limit of memory, with the callback of progress.
        most_outputs: Most outputs of a row.
        is_soft: Whether the soft measures are computed.
    """

    def __init__(
        self, names: Sequence[str], budget: Budget, *, most_outputs: int, is_soft: bool
    ) -> None:
        self._budget, self._most_outputs, self._is_soft = budget, most_outputs, is_soft
        self._rows: dict[str, list[Measures]] = {name: [] for name in names}
        self._seconds = dict.fromkeys(names, 0.0)
        self._refused: dict[str, str] = {}
        self._unit = ""
        self._num_outputs = 0
        self.skipped = 0

    @property
    def num_rows(self) -> int:
        """Rows that were measured."""
        return len(self._rows[FLOOR])

    def add(self, prediction: Prediction) -> None:
        """Measure all methods on a row; one that the model refuses is left out from here on."""
        indices = measurable_outputs(prediction, self._most_outputs)
        selected = SelectedOutputs(prediction, indices)
        if not len(indices):
            self.skipped += 1
            return
        attributions: dict[str, Attribution] = {}
        seconds: dict[str, float] = {}
        for name in list(self._rows):
            start = time.perf_counter()
            try:
                attributions[name] = METHODS[name].compute(selected, self._budget)
            except TooLongError:  # methods are compared on rows that all of them can explain
                self.skipped += 1
                return
            except ConfigError as error:
                self._refused[name] = str(error)
                del self._rows[name]
                continue
            seconds[name] = time.perf_counter() - start
        self._unit = "%" if isinstance(prediction, ClassPrediction) else prediction.unit
        self._num_outputs += len(indices)
        for name, spent in seconds.items():
            self._seconds[name] += spent
        meter = FaithfulnessMeter(
            selected,
            self._budget,
            most_outputs=self._most_outputs,
            is_soft=self._is_soft,
            occlusion=attributions.get("occlusion"),
        )
        for name, attribution in attributions.items():
            measures = meter.measure(attribution)
            assert measures is not None
            self._rows[name].append(measures)

    def compare(self) -> MethodComparison:
        """Return means with intervals, and the differences to the best method and to the floor."""
        scale = _SCALES.get(self._unit, 1.0)
        columns = {
            name: {measure: _column(rows, measure, scale) for measure in _MEASURES}
            for name, rows in self._rows.items()
        }
        advantage = {
            name: column["comprehensiveness"] - column["sufficiency"]
            for name, column in columns.items()
        }
        order = sorted(advantage, key=lambda name: -float(advantage[name].mean()))
        best = next((name for name in order if name != FLOOR), FLOOR)
        return MethodComparison(
            rows=self.num_rows,
            unit=self._unit,
            outputs=self._num_outputs,
            methods={
                name: _summarize(
                    name,
                    columns[name],
                    advantage,
                    best=best,
                    seconds=self._seconds[name] / self.num_rows,
                )
                for name in order
            },
            best=best,
            skipped=self.skipped,
            refused=self._refused,
        )


def _summarize(
    name: str,
    columns: dict[str, NDArray[np.float64]],
    advantage: dict[str, NDArray[np.float64]],
    *,
    best: str,
    seconds: float,
) -> MethodFaithfulness:
    """Return the means of a method's rows, and its differences to others."""
    behind, p_behind = None, None
    above, p_above = None, None
    if name != best:
        behind, p_behind = _difference(advantage[best], advantage[name])
    if name != FLOOR:
        above, p_above = _difference(advantage[name], advantage[FLOOR])
    return MethodFaithfulness(
        title=METHODS[name].title,
        comprehensiveness=_mean(columns["comprehensiveness"]),
        sufficiency=_mean(columns["sufficiency"]),
        advantage=_mean(advantage[name]),
        tau=_interval(columns["tau"]),
        soft_comprehensiveness=_interval(columns["soft_comprehensiveness"]),
        soft_sufficiency=_interval(columns["soft_sufficiency"]),
        deletion_area=_mean(columns["deletion_area"]),
        insertion_area=_mean(columns["insertion_area"]),
        behind_best=behind,
        p_behind_best=p_behind,
        above_random=above,
        p_above_random=p_above,
        seconds=seconds,
    )


def _column(rows: Sequence[Measures], measure: str, scale: float) -> NDArray[np.float64]:
    """Return a measure of all rows, ``[rows]``."""
    factor = 1.0 if measure in _NO_SHARE else scale
    return factor * np.array([getattr(row, measure) for row in rows], dtype=np.float64)


def _interval(values: NDArray[np.float64]) -> Interval | None:
    """Return the mean of the rows where a measure is defined; None where it is nowhere."""
    defined = values[~np.isnan(values)]
    return _mean(defined) if len(defined) else None


def _mean(values: NDArray[np.float64]) -> Interval:
    """Return the mean of all rows with its interval."""
    score = mean_with_interval(values, "")
    return Interval(score.value, score.low, score.high)


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[Interval, float]:
    """Return the mean difference of two methods on the same rows, and its p-value."""
    paired = compare_means(first, second, "")
    return Interval(paired.difference, paired.low, paired.high), paired.p_value
