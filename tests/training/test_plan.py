"""Plans: progress is continuous, monotone, and ends at 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.optim import SCHEDULES
from regard.training.plan import Plan, Speed, TimeBudget


@given(
    total=st.integers(1, 500),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 900)), max_size=4),
)
def test_progress_rises_from_0_to_1_without_a_jump_whatever_is_revised(total, changes):
    plan = Plan.from_start(total, evaluate_every=10)
    for step, end in sorted(changes):
        if step < plan.total_steps:
            before = plan.progress(step)
            plan = plan.revise(step, total_steps=end)
            assert plan.progress(step) == before
    progress = [plan.progress(step) for step in range(plan.total_steps + 1)]
    assert progress[0] == 0
    assert progress[-1] == 1
    assert progress == sorted(progress)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize(("num_steps", "least"), [(1, 0.5), (2, 0.1), (5, 0.02)])
def test_no_step_of_a_short_run_is_wasted_on_the_lowest_rate(schedule, num_steps, least):
    plan = Plan.from_start(num_steps, evaluate_every=1)
    rates = [SCHEDULES[schedule](plan.progress_within(step), 0.1) for step in range(num_steps)]
    assert min(rates) > least


def test_the_rates_of_a_warm_up_rise_by_equal_amounts_from_half_of_one():
    plan = Plan.from_start(100, evaluate_every=10)
    rates = [SCHEDULES["cosine"](plan.progress_within(step), 0.1) for step in range(10)]
    assert rates == pytest.approx([(step + 0.5) / 10 for step in range(10)])


def test_the_past_of_a_plan_does_not_change_when_it_is_revised():
    plan = Plan.from_start(100, evaluate_every=10)
    revised = plan.revise(40, total_steps=200)
    assert [plan.progress(s) for s in range(41)] == [revised.progress(s) for s in range(41)]


def test_evaluations_come_regularly_and_at_the_end_but_not_twice_close_together():
    plan = Plan.from_start(43, evaluate_every=10)
    assert [step for step in range(1, 44) if plan.evaluates_after(step)] == [10, 20, 30, 43]
    plan = Plan.from_start(45, evaluate_every=10)
    assert [step for step in range(1, 46) if plan.evaluates_after(step)] == [10, 20, 30, 40, 45]


def test_a_budget_counts_what_is_reserved():
    budget = TimeBudget(seconds=100.0, reserve=2.0, reserved_evaluations=3.0)
    steps = budget.steps_left(0, 10.0, seconds_per_step=0.5, evaluation=4.0, num_evaluations=5)
    assert steps == int((100 - 2 - 10 - 8 * 4) / 0.5)


def test_a_budget_that_is_used_up_leaves_no_steps():
    budget = TimeBudget(seconds=10.0, reserve=2.0, reserved_evaluations=1.0)
    assert budget.steps_left(0, 20.0, seconds_per_step=1.0, evaluation=1.0, num_evaluations=1) == 0


def test_a_budget_with_a_limit_on_the_steps_obeys_it():
    budget = TimeBudget(seconds=100.0, reserve=0.0, reserved_evaluations=0.0, most_steps=50)

    def left(step):
        return budget.steps_left(
            step, 10.0, seconds_per_step=1.0, evaluation=0.0, num_evaluations=0
        )

    assert [left(0), left(30), left(50), left(60)] == [50, 20, 0, 0]


def test_a_slow_phase_is_soon_forgotten():
    speed = Speed(window=1.0)
    for _ in range(10):
        speed.add(1.0)
    assert speed.seconds_per_step == 1.0
    measured = sum(speed.add(0.125) for _ in range(48))
    assert measured == 6
    assert speed.seconds_per_step == pytest.approx(0.125, abs=0.02)


@pytest.mark.parametrize("pause_at", [1, 2, 20, 99])
def test_a_pause_does_not_change_the_speed(pause_at):
    speed = Speed(window=2.0)
    for step in range(100):
        speed.add(15.0 if step == pause_at else 0.1)
    assert speed.seconds_per_step == pytest.approx(0.1, rel=0.2)


def test_steps_of_different_lengths_count_by_their_mean():
    speed = Speed(window=6.0)
    for step in range(300):
        speed.add(0.1 if step % 3 else 0.3)
    assert speed.seconds_per_step == pytest.approx(0.5 / 3, rel=0.01)


def test_a_run_that_is_extended_after_its_end_has_progress_left_to_make():
    plan = Plan.from_start(100, evaluate_every=30)
    longer = plan.extend(100, total_steps=400)
    assert [longer.progress(step) for step in (50, 99)] == [plan.progress(50), plan.progress(99)]
    assert [longer.progress(step) for step in (100, 250, 400)] == [0.25, 0.625, 1.0]
    assert not longer.evaluates_after(100 + 1)
    assert longer.evaluates_after(400)
