"""Which values of a file are scored: of the training file, of one that continues it, of others."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from regard.data.time_series import TimeIndex, TimeSeries, TimeStep, TimeUnit
from regard.errors import DataError
from regard.tasks.forecasting.scored_part import (
    ScoredPart,
    TrainingSeries,
    find_scored_part,
    steps_between,
)

NAN = float("nan")
HOURS = TimeStep(unit="hour")
DRAWN = np.random.default_rng(0).normal(size=(4, 200)).round(3)


def index_of(first: int = 0, step: TimeStep = HOURS) -> TimeIndex:
    """Return the index of a series that begins some steps after a fixed time."""
    if step.unit == "row":
        return TimeIndex(start=str(7 + step.count * first), step=step)
    start = TimeIndex(start="2024-01-31T00:00:00", step=step)
    return TimeIndex(start=str(start.datetimes(first, 1)[0]), step=step)


def series_of(**parts: tuple[int, int, int]) -> TimeSeries:
    """Return drawn series by name: which one is drawn, its first value and its end."""
    return TimeSeries(
        path="test.csv",
        names=list(parts),
        values=[DRAWN[row, first:end] for row, first, end in parts.values()],
        indices=[index_of(first) for _, first, _ in parts.values()],
        known=[np.arange(float(first), end + 5)[:, None] for _, first, end in parts.values()],
        observed=[np.zeros((end - first, 2)) for _, first, end in parts.values()],
    )


def find(
    series: TimeSeries, seen: TimeSeries | None, *, num_test: int = 0, keep_seen: bool = False
) -> ScoredPart:
    """Return the part that is scored, where the last values of the training data were not seen."""
    training = None
    if seen is not None:
        ends = [len(values) - num_test for values in seen.values]
        training = TrainingSeries(series=seen, ends=ends)
    return find_scored_part(series, training, 48, 10, keep_seen=keep_seen)


def test_the_training_file_is_scored_after_what_was_seen() -> None:
    part = find(series_of(a=(0, 0, 120)), series_of(a=(0, 0, 100)))
    assert part.first == [100]
    assert part.notes == ["scored after the values that the model was trained and validated on"]


def test_each_series_is_scored_after_what_was_seen_of_it() -> None:
    whole = series_of(a=(0, 0, 120), b=(1, 5, 90), c=(2, 0, 200))
    seen = series_of(c=(2, 0, 150), a=(0, 0, 100), b=(1, 5, 70))
    part = find(whole, seen)
    assert part.first == [100, 65, 150]


def test_a_file_of_what_comes_after_gets_the_history_of_the_training_data() -> None:
    part = find(series_of(a=(0, 100, 140)), series_of(a=(0, 0, 100)))
    assert part.first == [100]
    np.testing.assert_array_equal(part.series.values[0], DRAWN[0, :140])
    np.testing.assert_array_equal(part.series.known[0][:, 0], np.arange(145.0))
    assert part.series.observed[0].shape == (140, 2)
    assert part.series.indices[0].times(100, 1) == index_of(100).times(0, 1)
    assert "the history of a is from the training data" in part.notes


def test_a_file_that_begins_within_the_training_data_gets_what_was_before() -> None:
    part = find(series_of(a=(0, 60, 140)), series_of(a=(0, 0, 100)))
    assert part.first == [100]
    np.testing.assert_array_equal(part.series.values[0], DRAWN[0, :140])


def test_a_file_that_begins_before_the_training_data_keeps_its_own_history() -> None:
    part = find(series_of(a=(0, 0, 140)), series_of(a=(0, 30, 100)))
    assert part.first == [100]
    assert len(part.series.values[0]) == 140
    assert len(part.notes) == 1


def test_test_values_of_the_training_file_are_history_and_not_scored_again() -> None:
    whole, after = series_of(a=(0, 0, 100)), series_of(a=(0, 100, 140))
    part = find(after, whole, num_test=20)
    assert part.first == [100]
    np.testing.assert_array_equal(part.series.values[0], DRAWN[0, :140])
    assert find(whole, whole, num_test=20).first == [80]
    assert find(series_of(a=(0, 85, 140)), whole, num_test=20).first == [85]
    assert find(series_of(a=(0, 60, 140)), whole, num_test=20).first == [80]


def test_a_gap_after_the_training_data_is_missing() -> None:
    part = find(series_of(a=(0, 110, 140)), series_of(a=(0, 0, 100)))
    assert part.first == [110]
    values = part.series.values[0]
    assert np.isnan(values[100:110]).all()
    np.testing.assert_array_equal(values[110:], DRAWN[0, 110:140])


def test_a_series_long_after_the_training_data_is_new() -> None:
    part = find(series_of(a=(0, 150, 200)), series_of(a=(0, 0, 20)))
    assert part.first == [40]
    assert part.notes[0].endswith("; the series are not in the training data")


def test_a_series_under_another_name_is_known_by_its_values() -> None:
    part = find(series_of(load=(0, 0, 140)), series_of(a=(1, 0, 100), b=(0, 0, 100)))
    assert part.first == [100]


def test_a_series_of_the_same_name_with_other_values_is_new() -> None:
    part = find(series_of(value=(0, 0, 140)), series_of(value=(1, 0, 100)))
    assert part.first == [48]
    assert "not in the training data" in part.notes[0]


def test_a_few_values_may_have_been_corrected_since_or_be_missing() -> None:
    whole = series_of(a=(0, 0, 140))
    whole.values[0] = whole.values[0].copy()
    whole.values[0][[3, 50]] += 1
    whole.values[0][7] = NAN
    assert find(whole, series_of(a=(0, 0, 100))).first == [100]


def test_constant_series_are_distinguished_by_their_names() -> None:
    def constant(name: str, length: int) -> TimeSeries:
        series = series_of(**{name: (0, 0, length)})
        series.values[0] = np.zeros(length)
        return series

    assert find(constant("a", 140), constant("b", 100)).first == [48]
    assert find(constant("a", 140), constant("a", 100)).first == [100]


def test_another_grid_of_times_is_another_series() -> None:
    later = series_of(a=(0, 0, 140))
    later.indices[0] = TimeIndex(start="2024-01-31T00:30:00", step=HOURS)
    assert find(later, series_of(a=(0, 0, 100))).first == [48]


def test_a_series_before_the_training_data_is_new() -> None:
    part = find(series_of(a=(0, 0, 90)), series_of(a=(0, 100, 200)))
    assert part.first == [48]


@pytest.mark.parametrize(("length", "first"), [(140, 48), (58, 48), (57, 47), (20, 10), (11, 1)])
def test_a_new_series_is_scored_after_a_window_or_what_its_length_allows(
    length: int, first: int
) -> None:
    assert find(series_of(a=(0, 0, length)), None).first == [first]


def test_it_is_said_that_the_training_data_is_not_there() -> None:
    part = find(series_of(a=(0, 0, 140)), None)
    assert "values of it may be among those that are scored" in part.notes[0]


def test_some_series_may_be_new() -> None:
    part = find(series_of(a=(0, 0, 140), b=(1, 0, 140)), series_of(b=(1, 0, 100)))
    assert part.first == [48, 100]
    assert part.notes[0].startswith("1 of 2 series scored after the values that the model was")


def test_what_was_seen_is_scored_where_it_is_allowed() -> None:
    part = find(series_of(a=(0, 0, 120)), series_of(a=(0, 0, 100)), keep_seen=True)
    assert part.first == [48]
    assert "trained on some of the values" in part.notes[0]


def test_series_that_are_too_short_are_named() -> None:
    part = find(series_of(a=(0, 0, 100), b=(1, 0, 10), c=(2, 0, 1)), None)
    assert part.notes[1] == "2 series have fewer than 10 values to score: b, c"
    assert part.first == [48, 1, 1]


def test_a_file_with_nothing_to_score_is_refused() -> None:
    with pytest.raises(DataError, match=r"no series has 10 values after those.*allow_overlap"):
        find(series_of(a=(0, 0, 109)), series_of(a=(0, 0, 100)))
    with pytest.raises(DataError, match="longest series has 10 values"):
        find(series_of(a=(0, 0, 10), b=(1, 0, 2)), None)


@pytest.mark.parametrize("unit", get_args(TimeUnit))
@pytest.mark.parametrize("count", [1, 3])
def test_distances_of_grids_are_in_steps_of_every_unit(unit: TimeUnit, count: int) -> None:
    step = TimeStep(unit=unit, count=count)
    assert steps_between(index_of(0, step), index_of(17, step)) == 17
    assert steps_between(index_of(17, step), index_of(0, step)) == -17
    other = TimeStep(unit=unit, count=count + 1)
    assert steps_between(index_of(0, step), index_of(0, other)) is None


def test_times_in_different_utc_offsets_are_compared_as_moments() -> None:
    def index(start: str, zone: str, step: TimeStep = HOURS) -> TimeIndex:
        return TimeIndex(start=start, step=step, zone=zone)

    winter, summer = index("2024-01-01T00:00:00", "+01:00"), index("2024-01-01T05:00:00", "+02:00")
    assert steps_between(winter, summer) == 4
    assert steps_between(summer, index("2024-01-01T00:00:00", "-00:30")) is None
    assert steps_between(winter, index("2024-01-01T00:00:00", "")) is None
    days = [
        index(f"2024-0{month}-01T00:00:00", zone, TimeStep(unit="day"))
        for month, zone in ((1, "+01:00"), (4, "+02:00"))
    ]
    assert steps_between(*days) == 91
    months = [
        index(f"2024-0{month}-01T00:00:00", zone, TimeStep(unit="month"))
        for month, zone in ((1, "+01:00"), (4, "+02:00"))
    ]
    assert steps_between(*months) == 3


def test_what_was_before_has_times_in_the_zone_of_the_file() -> None:
    later, seen = series_of(a=(0, 100, 140)), series_of(a=(0, 0, 100))
    start = later.indices[0].datetimes(1, 1)[0]  # an hour later on the clock in summer
    later.indices[0] = TimeIndex(start=str(start), step=HOURS, zone="+02:00")
    seen.indices[0] = TimeIndex(start=seen.indices[0].start, step=HOURS, zone="+01:00")
    part = find(later, seen)
    assert part.first == [100]
    joined = part.series.indices[0]
    assert joined.times(100, 3) == later.indices[0].times(0, 3)
    assert joined.zone == "+02:00"


@pytest.mark.parametrize("unit", get_args(TimeUnit))
def test_a_history_has_times_before_the_file_in_every_unit(unit: TimeUnit) -> None:
    step = TimeStep(unit=unit)
    later, seen = series_of(a=(0, 100, 140)), series_of(a=(0, 0, 100))
    seen.indices[0] = index_of(0, step)
    later.indices[0] = index_of(100, step)
    part = find(later, seen)
    assert part.series.indices[0].times(100, 3) == later.indices[0].times(0, 3)
