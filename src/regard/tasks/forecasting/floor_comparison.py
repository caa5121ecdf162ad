"""The comparison of a forecaster with the best forecast that needs no training."""

from __future__ import annotations

import msgspec

from regard.data.listing import spell_number
from regard.metrics.forecasts import WindowErrors, compare_forecasts, measure_forecasts
from regard.tasks.forecasting.floors import Floor

MODEL_TITLE = "the model"
SCORE_NAMES = ("mase", "wql")
"""The scores that are compared; lower is better."""
FEWEST_WINDOWS = 6
"""Windows that are unlikely (1 in 32) to have all one sign by chance."""


class FloorComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The model against the best forecaster that is not trained, in one score.

    Args:
        floor: Name of that forecaster.
        title: What it is, in words.
        value: Score of the model; lower is better.
        other: Score of the floor.
        low: Lower end of the 95 % interval of the difference, model minus floor; None where it is
            unknown, as it is for one window.
        high: Upper end of that interval.
        num_windows: Windows that both are scored in.
    """

    floor: str
    title: str
    value: float
    other: float
    low: float | None
    high: float | None
    num_windows: int

    @property
    def verdict(self) -> str:
        """The winner with both scores, and whether the difference may be chance."""
        scores = [(MODEL_TITLE, self.value), (self.title, self.other)]
        if self.other < self.value:
            scores.reverse()
        (winner, best), (loser, worst) = scores
        text = f"{winner} is best, {format_score(best)} against {format_score(worst)} of {loser}"
        if self.num_windows < FEWEST_WINDOWS:
            windows = "window" if self.num_windows == 1 else "windows"
            return f"{text} ({spell_number(self.num_windows)} {windows}: may be chance)"
        is_certain = self.low is not None and self.high is not None and self.low * self.high > 0
        return text if is_certain else f"{text} (may be chance)"


def compare_with_best(
    errors: WindowErrors, floors: dict[str, Floor], season: int
) -> dict[str, FloorComparison]:
    """Return the comparison with the best floor in each score that both have."""
    against_best = {}
    own = measure_forecasts(errors)
    measures = {name: measure_forecasts(floor.errors) for name, floor in floors.items()}
    for score in SCORE_NAMES:
        value = getattr(own, score)
        values = {name: getattr(measured, score) for name, measured in measures.items()}
        comparable = {name: other for name, other in values.items() if other is not None}
        if value is None or not comparable:
            continue
        floor = min(comparable, key=comparable.__getitem__)
        paired = compare_forecasts(errors, floors[floor].errors, season)
        difference = getattr(paired, score)
        against_best[score] = FloorComparison(
            floor=floor,
            title=floors[floor].title,
            value=value,
            other=comparable[floor],
            low=None if difference is None else difference.low,
            high=None if difference is None else difference.high,
            num_windows=paired.num_windows,
        )
    return against_best


def format_score(value: float | None) -> str:
    """Return a score with three significant digits; a dash where there is none.

    >>> format_score(0.00741), format_score(1.5), format_score(None)
    ('0.00741', '1.5', '-')
    """
    return "-" if value is None else f"{value:.3g}"
