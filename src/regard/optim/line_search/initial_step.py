"""The first step size of a line search, and the figures of a step that later ones depend on."""

from __future__ import annotations

from typing import Any

from regard.optim.line_search.trial import LineSample

_FRACTION_OF_POSITION = 0.01  # psi_0 of Hager & Zhang 2005: first step over size of the parameters
_TRUSTED = (0.02, 100.0)  # how far from a guess the parabola through it is trusted
_IS_QUADRATIC = 1e-2  # relative error of the trapezium rule along a step
_STIFF = 0.2  # fraction of the slope that a quasi-Newton step leaves where the function stiffens
_LONGEST = 5.0  # of quasi-Newton steps


def initial_step_size(position: float, direction: float, value: float, slope: float) -> float:
    """Return the first step size of a run (Hager & Zhang 2005, step I0).

    Args:
        position: Largest absolute entry of the parameters.
        direction: Largest absolute entry of the direction.
        value: Value of the objective.
        slope: Along the direction, below 0.
    """
    if position > 0:
        return _FRACTION_OF_POSITION * position / direction
    return _FRACTION_OF_POSITION * abs(value) / -slope if value else 1.0


def quadratic_interpolation(guess: float, rise: float, slope: float) -> float:
    """Minimise the parabola with a slope at 0 and a rise at a guess (Hager & Zhang 2005, I1).

    Args:
        guess: A step size above 0.
        rise: Value there less the value at 0.
        slope: At 0, below 0.

    Returns:
        The minimiser, not too far from the guess; the guess where there is none.

    >>> quadratic_interpolation(1.0, 3.0, -1.0)
    0.125
    """
    curvature = rise - slope * guess
    if not 0 < curvature < float("inf"):
        return guess
    low, high = _TRUSTED
    return min(high * guess, max(low * guess, -slope * (guess * guess) / (2 * curvature)))


def quasi_newton_step_size(state: dict[str, Any]) -> float:
    """Return the first step size along a quasi-Newton direction: 1, or more after two stiff steps.

    Where the function grows faster than a parabola, as x^4 does, quasi-Newton steps stay too short
    one after the other; the secant through the last step's slopes gives the factor.

    Args:
        state: Has what `record_step` wrote.
    """
    if state["num_stiff_steps"] < 2:
        return 1.0
    remaining = state["end_slope"] / state["slope"]
    return min(_LONGEST, max(1.0, state["step"] / (1 - remaining))) if remaining < 1 else _LONGEST


def record_step(state: dict[str, Any], origin: LineSample, end: LineSample) -> None:
    """Write the figures of a step that the next first step size depends on.

    Args:
        state: Receives ``step``, ``slope``, ``end_slope``, ``num_stiff_steps``, ``is_quadratic``.
        origin: Sample at the start of the step.
        end: Sample at its end.
    """
    state.update(step=end.step_size, slope=origin.slope, end_slope=end.slope)
    is_stiff = end.slope < _STIFF * origin.slope
    state["num_stiff_steps"] = (state["num_stiff_steps"] + 1) * is_stiff
    predicted = 0.5 * (origin.slope + end.slope) * end.step_size
    error = abs(end.value - origin.value - predicted)
    state["is_quadratic"] = error < _IS_QUADRATIC * abs(predicted)
