"""The seasons of drawn series; real ones are in the benchmark of forecasts."""

import numpy as np
import pytest

from regard.data.seasons import calendar_seasons, count_seasonal, find_seasons
from regard.data.time_series import TimeStep

MONTH, DAY, HOUR = TimeStep(unit="month"), TimeStep(unit="day"), TimeStep(unit="hour")
HALF_HOUR = TimeStep(count=30, unit="minute")


def wave(length, period, size=1.0):
    return size * np.sin(2 * np.pi * np.arange(length) / period)


def noise(length, seed=0, size=1.0):
    return size * np.random.default_rng(seed).normal(size=length)


@pytest.mark.parametrize(
    ("step", "lengths"),
    [
        (TimeStep(unit="minute"), (60, 1440, 10_080)),
        (TimeStep(count=15, unit="minute"), (4, 96, 672)),
        (HALF_HOUR, (2, 48, 336)),
        (HOUR, (24, 168)),
        (TimeStep(count=7, unit="hour"), (24,)),
        (DAY, (7, 365)),
        (TimeStep(unit="week"), (52,)),
        (MONTH, (12,)),
        (TimeStep(count=6, unit="month"), (2,)),
        (TimeStep(unit="quarter"), (4,)),
        (TimeStep(unit="year"), ()),
        (TimeStep(), ()),
    ],
)
def test_the_calendar_proposes_seasons_by_the_step(step, lengths):
    assert calendar_seasons(step) == lengths


def test_demand_by_half_hours_has_a_day_and_a_week():
    day, week = wave(336 * 8, 48), np.repeat([1, 1, 1, 1, 1, 0.4, 0.2], 48)
    values = 20 + (5 + 3 * day) * np.tile(week, 8) + noise(336 * 8, size=0.3)
    assert find_seasons([values], HALF_HOUR) == (48, 336)


def test_a_day_without_a_week_is_one_season():
    assert find_seasons([wave(24 * 60, 24) + noise(24 * 60)], HOUR) == (24,)


def test_a_season_that_grows_with_the_level_is_found():
    trend = np.exp(np.arange(144) / 60)
    assert find_seasons([100 * trend * (1 + 0.2 * wave(144, 12))], MONTH) == (12,)


def test_days_have_a_week_and_a_year():
    values = wave(1100, 7) + wave(1100, 365, 2.0) + noise(1100, size=0.5)
    assert find_seasons([values], DAY) == (7, 365)


def test_two_years_of_months_are_enough():
    assert find_seasons([wave(24, 12) + noise(24, size=0.3)], MONTH) == (12,)


@pytest.mark.parametrize("step", [TimeStep(), MONTH, TimeStep(unit="year")])
def test_a_season_of_another_length_is_found(step):
    assert find_seasons([wave(300, 17) + noise(300, size=0.5)], step) == (17,)


@pytest.mark.parametrize("step", [MONTH, DAY, TimeStep(unit="quarter"), TimeStep()])
@pytest.mark.parametrize(
    "values",
    [
        noise(300),
        noise(300).cumsum(),
        np.arange(300.0),
        np.arange(300.0) ** 3,
        np.exp(np.arange(300) / 40),
        np.where(np.arange(300) > 150, 10.0, 0.0),
        np.where(np.arange(300) > 150, 10.0, 0.0) + noise(300),
        np.full(300, -7.0),
        np.arange(5.0),
        np.zeros(0),
        np.full(50, np.nan),
    ],
    ids=[
        *("noise", "walk", "line", "cubic", "growth", "shift", "noisy shift"),
        *("constant", "short", "empty", "missing"),
    ],
)
def test_what_does_not_repeat_has_no_season(values, step):
    assert find_seasons([values], step) == ()


def test_chance_rarely_makes_a_season():
    walks = [find_seasons([noise(100, seed).cumsum()], MONTH) for seed in range(60)]
    noises = [find_seasons([noise(100, seed)], MONTH) for seed in range(60)]
    assert sum(map(bool, walks)) <= 4
    assert sum(map(bool, noises)) <= 2


def test_gaps_and_outliers_do_not_hide_a_season():
    values = wave(400, 12) + noise(400, size=0.3)
    values[np.random.default_rng(1).random(400) < 0.1] = np.nan
    values[[50, 150, 250]] = 1000.0
    assert find_seasons([values], MONTH) == (12,)


@pytest.mark.parametrize("step", [HOUR, TimeStep()])
@pytest.mark.parametrize("num_others", [1, 3])
def test_columns_of_noise_do_not_hide_the_season_of_one_column(step, num_others):
    sales = 10 + wave(400, 24, 3.0) + noise(400, size=0.3)
    others = [noise(400, seed) for seed in range(1, 1 + num_others)]
    assert find_seasons([sales, *others], step) == (24,)
    assert find_seasons([*others, sales], step) == (24,)
    assert count_seasonal([sales, *others], 24) == (1, 1 + num_others)


def test_a_season_of_few_series_or_a_faint_one_does_not_count_for_many():
    seasonal = [wave(100, 12) + noise(100, seed, 0.3) for seed in range(6)]
    faint = [wave(100, 12) + noise(100, seed, 0.9) for seed in range(6)]
    others = [noise(100, seed) for seed in range(20, 30)]
    assert find_seasons([*seasonal, *others[:3]], MONTH) == (12,)
    assert find_seasons([*faint, *others[:3]], MONTH) == (12,)
    assert find_seasons([*seasonal[:2], *others[:6]], MONTH) == (12,)
    assert find_seasons([*seasonal[:2], *others[:7]], MONTH) == ()
    assert find_seasons([*faint[:2], *others[:6]], MONTH) == ()


def test_chance_rarely_makes_a_season_of_several_series():
    def drawn(number, seeds, *, walks):
        series = [noise(100, seed) for seed in range(seeds, seeds + number)]
        return [values.cumsum() for values in series] if walks else series

    for number in (2, 4):
        walks = [find_seasons(drawn(number, 10 * s, walks=True), MONTH) for s in range(40)]
        noises = [find_seasons(drawn(number, 10 * s, walks=False), MONTH) for s in range(40)]
        assert sum(map(bool, walks)) <= 2
        assert sum(map(bool, noises)) == 0


@pytest.mark.parametrize(
    "values", [[np.full(50, np.nan)], [np.zeros(0)], [np.arange(5.0)], [np.ones(100)]]
)
def test_series_without_anything_to_count_have_no_season(values):
    assert count_seasonal(values, 12)[0] == 0


def test_series_that_are_too_short_have_no_say():
    assert find_seasons([wave(100, 12), *(np.arange(15.0) for _ in range(5))], MONTH) == (12,)
