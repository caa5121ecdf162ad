"""Plans: progress is continuous, monotone, and ends at 1."""

from hypothesis import given
from hypothesis import strategies as st

from regard.training.plan import Budget, Plan


@given(
    total=st.integers(1, 500),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 900)), max_size=4),
)
def test_progress_rises_from_0_to_1_without_a_jump_whatever_is_revised(total, changes):
    plan = Plan.of(total, evaluate_every=10)
    for step, end in sorted(changes):
        if step < plan.total_steps:
            before = plan.progress(step)
            plan = plan.revise(step, total_steps=end)
            assert plan.progress(step) == before
    shares = [plan.progress(step) for step in range(plan.total_steps + 1)]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_the_past_of_a_plan_does_not_change_when_it_is_revised():
    plan = Plan.of(100, evaluate_every=10)
    revised = plan.revise(40, total_steps=200)
    assert [plan.progress(s) for s in range(41)] == [revised.progress(s) for s in range(41)]


def test_evaluations_come_regularly_and_at_the_end_but_not_twice_close_together():
    plan = Plan.of(43, evaluate_every=10)
    assert [step for step in range(1, 44) if plan.evaluates_after(step)] == [10, 20, 30, 43]
    plan = Plan.of(45, evaluate_every=10)
    assert [step for step in range(1, 46) if plan.evaluates_after(step)] == [10, 20, 30, 40, 45]


def test_a_budget_counts_what_is_reserved():
    budget = Budget(seconds=100.0, reserve=2.0, reserved_evaluations=3.0)
    steps = budget.steps_left(10.0, seconds_per_step=0.5, evaluation=4.0, num_evaluations=5)
    assert steps == int((100 - 2 - 10 - 8 * 4) / 0.5)


def test_a_budget_that_is_used_up_leaves_no_steps():
    budget = Budget(seconds=10.0, reserve=2.0, reserved_evaluations=1.0)
    assert budget.steps_left(20.0, seconds_per_step=1.0, evaluation=1.0, num_evaluations=1) == 0
