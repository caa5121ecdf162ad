"""Line searches: what they accept, what they do where the function ends, and what failure means."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import ConfigError
from regard.optim import LBFGS, Armijo, ConjugateGradient, HagerZhang, StrongWolfe
from regard.optim.line_search import build_line_search
from regard.optim.line_search.trial import LineSample, LineSearchResult, LineSearchState

SEARCHES = [Armijo(), StrongWolfe(), HagerZhang()]
NAMES = ["armijo", "strong-wolfe", "hager-zhang"]


class Curve:
    """phi and its derivative, with a record of where they were computed."""

    def __init__(self, phi, slope):
        self._phi, self._slope = phi, slope
        self.samples: list[float] = []
        self.values: list[float] = []

    def sample(self, step):
        self.samples.append(step)
        return LineSample(step, self._phi(step), self._slope(step))

    def value(self, step):
        self.values.append(step)
        return self._phi(step)

    def start(self, step, **others):
        return LineSearchState(LineSample(0.0, self._phi(0.0), self._slope(0.0)), step, **others)


def quartic(a, b, c, d):
    """Build d t^4 + c t^3 + b t^2 + a t."""
    return Curve(
        lambda t: t * (a + t * (b + t * (c + t * d))),
        lambda t: a + t * (2 * b + t * (3 * c + t * 4 * d)),
    )


QUARTICS = st.builds(
    quartic, st.floats(-10, -0.1), st.floats(-5, 5), st.floats(-3, 3), st.floats(0.05, 3)
)
FIRST_STEPS = st.floats(-3, 3).map(lambda power: 10**power)


@given(QUARTICS, FIRST_STEPS)
@settings(deadline=None)
def test_armijo_accepts_a_sufficient_decrease(curve, step):
    start = curve.start(step)
    found = Armijo(sufficient=0.01)(curve, start)
    assert found.failure == ""
    assert (
        found.sample.value
        <= start.origin.value + 0.01 * found.sample.step_size * start.origin.slope
    )
    assert found.sample.step_size <= step


@given(QUARTICS, FIRST_STEPS, st.sampled_from([(1e-4, 0.1), (1e-4, 0.9), (0.1, 0.4)]))
@settings(deadline=None)
def test_strong_wolfe_accepts_its_two_conditions(curve, step, shares):
    sufficient, curvature = shares
    start = curve.start(step)
    found = StrongWolfe(sufficient, curvature)(curve, start)
    assert found.failure == ""
    bound = start.origin.value + sufficient * found.sample.step_size * start.origin.slope
    assert found.sample.value <= bound
    assert abs(found.sample.slope) <= -curvature * start.origin.slope


@given(QUARTICS, FIRST_STEPS)
@settings(deadline=None)
def test_hager_zhang_accepts_the_wolfe_conditions(curve, step):
    start = curve.start(step)
    found = HagerZhang()(curve, start)
    assert found.failure == ""
    assert (
        found.sample.value <= start.origin.value + 0.1 * found.sample.step_size * start.origin.slope
    )
    assert found.sample.slope >= 0.9 * start.origin.slope


@given(QUARTICS, FIRST_STEPS)
@settings(deadline=None)
def test_hager_zhang_goes_by_slopes_where_values_are_flat(curve, step):
    start = curve.start(step, tolerance=1e-9, is_stagnating=True)
    found = HagerZhang()(curve, start)
    assert found.failure == ""
    point, origin = found.sample, start.origin
    assert point.slope >= 0.9 * origin.slope
    is_wolfe = point.value <= origin.value + 0.1 * point.step_size * origin.slope
    is_approximate = point.value <= origin.value + 1e-9 and point.slope <= -0.8 * origin.slope
    assert is_wolfe or is_approximate


@given(QUARTICS, FIRST_STEPS, st.floats(0.01, 0.5))
@settings(deadline=None)
def test_a_start_may_ask_for_another_curvature(curve, step, share):
    start = curve.start(step, curvature=share)
    wolfe, hager_zhang = StrongWolfe()(curve, start), HagerZhang(0.001)(curve, start)
    assert abs(wolfe.sample.slope) <= -share * start.origin.slope
    assert hager_zhang.sample.slope >= share * start.origin.slope


@given(QUARTICS, FIRST_STEPS)
@settings(deadline=None)
def test_the_accepted_point_is_the_last_that_was_computed(curve, step):
    for search in SEARCHES:
        curve.samples.clear()
        assert search(curve, curve.start(step)).sample.step_size == curve.samples[-1]


@pytest.mark.parametrize("search", SEARCHES, ids=NAMES)
@pytest.mark.parametrize("outside", [math.nan, math.inf, -math.inf])
def test_points_that_are_not_finite_are_stepped_back_from(search, outside):
    curve = Curve(
        lambda t: (t - 0.5) ** 2 if t < 1 else outside,
        lambda t: 2 * (t - 0.5) if t < 1 else outside,
    )
    found = search(curve, curve.start(1000.0))
    assert found.failure == ""
    assert found.sample.step_size < 1
    assert found.sample.value < 0.25


@pytest.mark.parametrize("search", SEARCHES, ids=NAMES)
def test_a_slope_that_is_not_finite_is_stepped_back_from(search):
    curve = Curve(lambda t: (t - 0.5) ** 2, lambda t: 2 * (t - 0.5) if t < 0.6 else math.nan)
    found = search(curve, curve.start(0.7))
    assert found.failure == ""
    assert found.sample.is_finite


@pytest.mark.parametrize("search", SEARCHES[1:], ids=NAMES[1:])
def test_a_barrier_behind_a_descent_is_approached_from_inside(search):
    """phi = -log(1 - t) - 3 t falls to its minimum at 2/3, and is infinite from 1 on."""
    curve = Curve(
        lambda t: -math.log(1 - t) - 3 * t if t < 1 else math.inf,
        lambda t: 1 / (1 - t) - 3 if t < 1 else math.nan,
    )
    found = search(curve, curve.start(1e-3, curvature=0.01))
    assert found.failure == ""
    assert found.sample.step_size == pytest.approx(2 / 3, abs=0.15)


@pytest.mark.parametrize("search", SEARCHES[1:], ids=NAMES[1:])
def test_a_function_finite_nowhere_else_is_named(search):
    curve = Curve(lambda t: math.nan if t else 0.0, lambda t: math.nan if t else -1.0)
    expected = "the function is not finite however short the step"
    assert search(curve, curve.start(1.0)) == LineSearchResult(None, expected)


def test_armijo_names_its_limit():
    curve = Curve(lambda t: math.nan if t else 0.0, lambda t: -1.0)
    expected = "no step met the conditions within the limit of evaluations"
    assert Armijo(max_evaluations=5)(curve, curve.start(1.0)) == LineSearchResult(None, expected)
    assert len(curve.values) == 5


@pytest.mark.parametrize("search", SEARCHES, ids=NAMES)
def test_a_slope_of_the_wrong_sign_is_reported_as_failure(search):
    curve = Curve(lambda t: t, lambda t: -1.0)
    found = search(curve, curve.start(1.0))
    assert found.sample is None
    assert found.failure in (
        "no step met the conditions within the limit of evaluations",
        "the interval shrank to nothing: values and slopes disagree, by rounding or by mistake",
    )


@pytest.mark.parametrize("search", [StrongWolfe(max_evaluations=7), HagerZhang(max_evaluations=7)])
def test_a_function_without_a_floor_gives_its_lowest_point_as_a_failure(search):
    curve = Curve(lambda t: -t, lambda t: -1.0)
    found = search(curve, curve.start(1.0))
    assert found.failure == "no step met the conditions within the limit of evaluations"
    assert len(curve.samples) == 7
    assert found.sample.step_size == max(curve.samples)


@pytest.mark.slow
@given(QUARTICS, FIRST_STEPS, st.integers(1, 6))
@settings(deadline=None)
def test_no_search_computes_more_points_than_it_may(curve, step, limit):
    for search in (StrongWolfe(max_evaluations=limit), HagerZhang(max_evaluations=limit)):
        curve.samples.clear()
        search(curve, curve.start(step, curvature=1e-9))
        # Two secants and a bisection are taken before the limit is looked at again.
        assert len(curve.samples) <= limit + 3


@pytest.mark.parametrize("search", SEARCHES, ids=NAMES)
def test_a_rise_within_the_tolerance_is_not_seen(search):
    """Values are rounded to a step function far coarser than the decrease; slopes are right."""
    curve = Curve(lambda t: 1.0 + (1e-9 if t else 0.0), lambda t: 1e-12 * (t - 1.0))
    found = search(curve, curve.start(0.9, tolerance=1e-8, is_stagnating=True))
    assert found.failure == ""
    assert found.sample.step_size == 0.9


def test_the_first_step_is_kept_where_it_is_good():
    for search in SEARCHES:
        curve = quartic(-2.0, 1.0, 0.0, 0.0)
        assert search(curve, curve.start(0.95)).sample.step_size == 0.95


def test_armijo_goes_to_the_minimum_of_the_parabola_within_its_factors():
    curve = quartic(-2.0, 1.0, 0.0, 0.0)
    assert Armijo()(curve, curve.start(3.0)).sample.step_size == pytest.approx(1.0)
    assert Armijo(shrink=(0.1, 0.2))(curve, curve.start(3.0)).sample.step_size == pytest.approx(0.6)
    assert Armijo(shrink=(0.4, 0.5))(curve, curve.start(3.0)).sample.step_size == pytest.approx(1.2)


def test_an_unknown_search_lists_the_known_ones():
    with pytest.raises(ConfigError) as error:
        build_line_search("backtracking")
    assert str(error.value) == (
        "unknown search 'backtracking'.  One of: hager-zhang, strong-wolfe, armijo"
    )


@pytest.mark.parametrize(
    "search",
    [
        *NAMES,
        Armijo(max_evaluations=3),
        StrongWolfe(max_evaluations=3),
        HagerZhang(max_evaluations=3),
    ],
)
@pytest.mark.parametrize("method", [ConjugateGradient, LBFGS])
def test_a_failed_search_restores_the_parameters_bit_for_bit(method, search):
    x = torch.nn.Parameter(torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    before = x.detach().clone()
    optimizer = method([x], search=search)

    def jumps():
        x.grad = 2 * x.detach()
        return (x.detach() ** 2).sum() + float(not torch.equal(x, before))

    value = optimizer.step(jumps)
    assert torch.equal(x, before)
    assert value == float((before * before).sum())
    assert optimizer.last.step_size == 0.0
    assert optimizer.last.failure


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Armijo(sufficient=1.0), "sufficient must be above 0 and below 1, not 1.0"),
        (lambda: Armijo(shrink=(0.5, 0.1)), "shrink[1] must be 0.5 or more and below 1, not 0.1"),
        (lambda: HagerZhang(sufficient=0.5), "sufficient must be above 0 and below 1/2, not 0.5"),
        (lambda: HagerZhang(curvature=0.01), "curvature must be 0.1 or more and below 1, not 0.01"),
        (lambda: HagerZhang(growth=1.0), "growth must be above 1, not 1.0"),
        (lambda: StrongWolfe(sufficient=0.2), "sufficient must be above 0 and below 0.1, not 0.2"),
        (
            lambda: StrongWolfe(max_evaluations=1.5),
            "max_evaluations must be a whole number, 1 or more, not 1.5",
        ),
        (
            lambda: build_line_search(1),
            "search must be hager-zhang, strong-wolfe, armijo, or a line search, not 1",
        ),
    ],
)
def test_an_argument_out_of_range_is_refused(build, message):
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message
