"""Colors of cells by the logarithm of their figures."""

import math

from regard.plots.cells import LogScale
from regard.plots.style import SCALE


def test_steps_are_equal_parts_of_the_logarithm():
    scale = LogScale.of_figures([1.0, None, 10.0**12, 0.0, -3.0])
    assert scale == (1.0, 10.0**12)
    assert [scale.step(10.0 ** (power + 0.5)) for power in range(12)] == list(range(len(SCALE)))
    assert scale.step(10.0**12) == len(SCALE) - 1


def test_what_is_unknown_or_not_above_0_has_no_step():
    scale = LogScale.of_figures([])
    assert [scale.step(figure) for figure in (None, 0.0, -1.0, math.nan)] == [None] * 4
    assert scale.step(1.0) == 0
