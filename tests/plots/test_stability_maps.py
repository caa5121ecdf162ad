"""The picture of a run's stability: a cell a layer and step, verdicts in words, any names."""

import pytest
from tests.plots.read_svg import Svg

from regard.plots.stability_maps import StabilityPicture
from regard.plots.style import SCALE


def picture(num_steps=5, layers=("encoder.0", "<b>&", "\u4e2d\u6587"), **changes):
    figures = {
        name: [10.0 ** (row - step) for step in range(num_steps)] for row, name in enumerate(layers)
    }
    fields = {
        "steps": [10 * step + 1 for step in range(num_steps)],
        "layers": list(layers),
        "gradient_norms": figures,
        "update_ratios": figures,
        "verdicts": ["Exploding gradient at step 21: its norm, 5, is large."],
        "marks": [("encoder.0", 21)],
    }
    return StabilityPicture(**(fields | changes))


def test_it_shows_verdict_layers_steps_and_a_color_for_every_magnitude(tmp_path):
    path = tmp_path / "stability.svg"
    picture(num_steps=12).draw(path)
    texts = set(Svg(path).texts)
    assert {"encoder.0", "<b>&", "\u4e2d\u6587", "step", "1"} <= texts
    assert "Exploding gradient at step 21: its norm, 5, is large." in texts
    content = path.read_text(encoding="utf-8")
    assert all(f"fill: {color.light}" in content for color in SCALE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"num_steps": 1, "verdicts": [], "marks": []},
        {"num_steps": 900},
        {"layers": ()},
        {"layers": tuple(f"decoder.{n}.{'long' * 40}" for n in range(40))},
        {"gradient_norms": {}, "update_ratios": {"encoder.0": [None, 0.0, 1.0, 2.0, 3.0]}},
        {"marks": [("", 10**9)]},
    ],
    ids=["one step", "many steps", "no layers", "many layers", "gaps", "late mark"],
)
def test_any_record_can_be_drawn(tmp_path, changes):
    path = tmp_path / "stability.svg"
    picture(**changes).draw(path)
    assert Svg(path).texts


def test_a_run_without_a_problem_says_so(tmp_path):
    picture(verdicts=[], marks=[]).draw(tmp_path / "s.svg")
    assert "Nothing wrong in the record." in Svg(tmp_path / "s.svg").texts
