"""Which values of a file are scored: those that a model has not been trained or validated on.

A series of the file is one of the training data where their times are on one grid and they have the
same values at the times of both, or where it has the same name and begins after it. It is scored
after the last value that the model has seen; a file that has only what comes after gets the history
of the training data. Any other series is new, and is scored from the first origin with a whole
window of history.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.listing import list_first, pluralize
from regard.data.time_series import MONTHS, SECONDS, TimeIndex, TimeSeries
from regard.errors import DataError

_LEAST_EQUAL = 0.9  # of the values at the times of both; a few may have been corrected since
_ROUNDING = 1e-6  # relative, of values that were written with fewer digits
_FEWEST_EQUAL = 8  # values at the times of both that identify a series under another name
_NAMED_SERIES = 3  # in a note


class TrainingSeries(msgspec.Struct, frozen=True, kw_only=True):
    """The series of the training data.

    Args:
        series: Series of the whole file.
        ends: Number of values of each that the model was trained or validated on.
    """

    series: TimeSeries
    ends: list[int]


class ScoredPart(msgspec.Struct, frozen=True, kw_only=True):
    """Series to be scored, and where that begins.

    Args:
        series: Series of the file, some with a history from the training data.
        first: Index of the first value of each that may be scored.
        notes: Where the scores begin, and what was left out.
    """

    series: TimeSeries
    first: list[int]
    notes: list[str]


def find_scored_part(
    series: TimeSeries,
    seen: TrainingSeries | None,
    window: int,
    horizon: int,
    *,
    keep_seen: bool = False,
) -> ScoredPart:
    """Return the part of a file that a model has not seen.

    Args:
        series: Series of the file.
        seen: The training data; None where it is not known.
        window: Values of a history that the model reads.
        horizon: Steps ahead.
        keep_seen: Whether values that were seen are scored, too.

    Raises:
        DataError: It has no window of `horizon` values.
    """
    whole, ends = (series, [0] * len(series)) if seen is None else _join(series, seen)
    first = [
        end if end and not keep_seen else max(1, min(window, len(values) - horizon))
        for values, end in zip(whole.values, ends, strict=True)
    ]
    num_seen = sum(end > 0 for end in ends)
    named = list(zip(series.names, series.values, whole.values, first, strict=True))
    continued = [name for name, own, values, _ in named if len(values) > len(own)]
    short = [name for name, _, values, begin in named if len(values) - begin < horizon]
    if len(short) == len(named):
        raise DataError(_describe_nothing(whole, horizon, num_seen))
    notes = [_describe_part(len(series), None if seen is None else num_seen, window, keep_seen)]
    if continued:
        names = list_first(continued, _NAMED_SERIES)
        notes.append(f"the history of {names} is from the training data")
    if short:
        names = list_first(short, _NAMED_SERIES)
        have = pluralize(len(short), "series has", "series have")
        notes.append(f"{have} fewer than {horizon:,} values to score: {names}")
    return ScoredPart(series=whole, first=first, notes=notes)


@lru_cache(maxsize=4096)
def steps_between(first: TimeIndex, second: TimeIndex) -> int | None:
    """Return how many steps the second index begins after the first; None on another grid.

    Times in different UTC offsets are compared as moments; days and weeks, which begin at different
    moments there, to the nearest.
    """
    step = first.step
    if second.step != step or bool(first.zone) != bool(second.zone):
        return None
    if step.unit == "row":
        distance, size = int(second.start) - int(first.start), step.count
    elif step.unit in MONTHS:
        start, end = (np.datetime64(index.start, "M").astype(int) for index in (first, second))
        distance, size = int(end - start), MONTHS[step.unit] * step.count
    else:
        assert step.seconds is not None, "a step is rows, months or seconds"
        distance, size = _moment(second) - _moment(first), step.seconds
        if first.zone != second.zone and size % SECONDS["day"] == 0:
            distance = round(distance / size) * size
    return distance // size if distance % size == 0 else None


def _moment(index: TimeIndex) -> int:
    """Return the time of the first value, in seconds since 1970 in UTC where there is an offset."""
    offset = datetime.strptime(index.zone, "%z").utcoffset() if index.zone else None
    local = int(np.datetime64(index.start, "s").astype(np.int64))
    return local - (0 if offset is None else round(offset.total_seconds()))


def _describe_part(num_series: int, num_seen: int | None, window: int, keep_seen: bool) -> str:
    """Return in words where the scores begin.

    Args:
        num_series: Series of the file.
        num_seen: Those of the training data; None where that is not known.
        window: Values of a history that the model reads.
        keep_seen: Whether values that were seen are scored, too.
    """
    history = f"a history of {window:,} values, less in a short series"
    if num_seen is None:
        return (
            f"scored after {history}; the training data is not there, so that values of it may be "
            "among those that are scored"
        )
    if keep_seen:
        also = "; the model was trained on some of the values" if num_seen else ""
        return f"scored after {history}{also}"
    seen = "the values that the model was trained and validated on"
    if num_seen == num_series:
        return f"scored after {seen}"
    if not num_seen:
        return f"scored after {history}; the series are not in the training data"
    return f"{num_seen:,} of {num_series:,} series scored after {seen}, the others after {history}"


def _join(series: TimeSeries, seen: TrainingSeries) -> tuple[TimeSeries, list[int]]:
    """Return series with the history that the training data has of them, and where scores begin.

    Args:
        series: Series of the file.
        seen: The training data.

    Returns:
        The series, and for each the index of the first value that was not seen, 0 where the
        training data does not have it.
    """
    rows = [_join_row(series.select([number]), seen) for number in range(len(series))]
    whole = msgspec.structs.replace(
        series,
        values=[row.values[0] for row, _ in rows],
        indices=[row.indices[0] for row, _ in rows],
        known=[row.known[0] for row, _ in rows],
        observed=[row.observed[0] for row, _ in rows],
    )
    return whole, [end for _, end in rows]


def _join_row(row: TimeSeries, seen: TrainingSeries) -> tuple[TimeSeries, int]:
    """Return a series with the history that the training data has of it, and where scores begin.

    Args:
        row: A single series.
        seen: The training data.

    Returns:
        The series, which begins no later than that of the training data, and the index of the first
        of its own values that was not seen; the series as it is and 0 where the training data does
        not have it.
    """
    names = seen.series.names
    # Those of the same name first, so that the others are seldom looked at.
    for number in sorted(range(len(names)), key=lambda number: names[number] != row.names[0]):
        name, values = names[number], seen.series.values[number]
        offset = steps_between(row.indices[0], seen.series.indices[number])
        if offset is None or not _is_same(row, name, values, offset):
            continue
        if offset >= 0:
            return row, offset + seen.ends[number]
        whole = _prepend(row, seen.series.select([number]), -offset)
        return whole, max(-offset, seen.ends[number])
    return row, 0


def _is_same(row: TimeSeries, name: str, values: NDArray[np.float64], offset: int) -> bool:
    """Return whether a series is one of the training data, or what comes after it.

    Args:
        row: A single series.
        name: Name of the one in the training data.
        values: Values of the one in the training data.
        offset: Index in `row` of the first of these values.
    """
    has_name = row.names[0] == name
    own = row.values[0]
    if offset + len(values) <= 0:  # the training data ends before the series begins
        return has_name and -offset <= 2 * len(values)
    if offset >= len(own):
        return False
    begin, end = max(0, offset), min(len(own), offset + len(values))
    if not has_name and own[begin] != values[begin - offset]:  # NaN differs from itself
        return False
    pairs = np.stack([own[begin:end], values[begin - offset : end - offset]])
    pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]  # [2, values that both have]
    if not pairs.shape[1]:
        return has_name
    is_equal = np.isclose(pairs[0], pairs[1], rtol=_ROUNDING, atol=0).mean() >= _LEAST_EQUAL
    identifies = pairs.shape[1] >= _FEWEST_EQUAL and np.ptp(pairs[0]) > 0
    return bool(is_equal) and (has_name or bool(identifies))


def _prepend(row: TimeSeries, seen: TimeSeries, count: int) -> TimeSeries:
    """Return a series with values of the training data before it, NaN where there is a gap.

    Args:
        row: A single series.
        seen: The same in the training data.
        count: Values to be added: those from the first of `seen` to the first of `row`.
    """

    def join(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
        gap = np.full((max(0, count - len(before)), *before.shape[1:]), np.nan)
        return np.concatenate([before[:count], gap, after])

    return msgspec.structs.replace(
        row,
        values=[join(seen.values[0], row.values[0])],
        indices=[row.indices[0].starting_at(-count)],
        known=[join(seen.known[0], row.known[0])],
        observed=[join(seen.observed[0], row.observed[0])],
    )


def _describe_nothing(series: TimeSeries, horizon: int, num_seen: int) -> str:
    """Return the message for a file without a window to score."""
    longest = max(map(len, series.values))
    if not num_seen:
        return (
            f"{series.path}: the longest series has {longest:,} values; a forecast of {horizon:,} "
            "steps takes that many and a history to be scored.  Name a longer file."
        )
    return (
        f"{series.path}: no series has {horizon:,} values after those that the model was trained "
        "and validated on.  Name a file with later values, or score those too: "
        "`data.allow_overlap=true`"
    )
