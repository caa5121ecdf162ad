"""The curves of a run: what is shown of few evaluations, of many, and of none."""

import math
import time

import pytest

from regard.plots.curves import Curves, draw_curves
from regard.plots.style import ACCENT, SECOND

NAN = math.nan


def metrics(count, *, score="chrf", best=None, rate=0.01):
    """Make the lines of metrics.jsonl."""
    lines = [
        {
            "event": "evaluated",
            "step": 10 * (row + 1),
            "train_loss": 3.0 / (row + 1),
            "measures": {"loss": 2.0 / (row + 1) + 0.5, score: 10.0 * row},
            "score_name": score,
            "is_best": row == best,
            "learning_rate": rate,
        }
        for row in range(count)
    ]
    return [*lines, {"event": "finished", "step": 10 * count, "valid": {}, "test": {}}]


@pytest.mark.slow
def test_losses_score_and_rate_have_axes_units_and_a_legend(drawn):
    titles = {"chrf": "chrF (0 to 100)"}
    curves = Curves.from_metrics(
        metrics(8, best=5), unit="nats per token", title_of=titles.__getitem__
    )
    svg = drawn(draw_curves, curves)
    wanted = {"loss (nats per token)", "training", "validation", "chrF (0 to 100)"}
    assert wanted | {"learning rate", "step", "best, step 60"} <= set(svg.texts)
    assert svg.count(f"stroke: {SECOND.light}") and svg.count(f"stroke: {ACCENT.light}")


def test_figures_are_taken_from_the_evaluations():
    curves = Curves.from_metrics(metrics(3, best=1))
    assert (list(curves.steps), curves.best) == ([10, 20, 30], 1)
    assert list(curves.train_loss) == [3.0, 1.5, 1.0]
    assert list(curves.valid_loss) == [2.5, 1.5, 2.0 / 3 + 0.5]
    assert (curves.score_name, list(curves.score)) == ("chrf", [0.0, 10.0, 20.0])


def test_a_run_whose_score_is_the_loss_shows_its_other_figure_or_none(drawn):
    lines = metrics(3)
    for line in lines[:3]:
        line["score_name"] = "loss"
        line["measures"] = {"loss": 1.0, "perplexity": math.e}
    assert Curves.from_metrics(lines).score_name == "perplexity"
    for line in lines[:3]:
        line["measures"] = {"loss": 1.0}
    curves = Curves.from_metrics(lines)
    assert curves.score_name == ""
    assert "learning rate" in drawn(draw_curves, curves).texts


def test_a_method_without_a_rate_has_no_panel_for_it(drawn):
    with_rate = drawn(draw_curves, Curves.from_metrics(metrics(3)))
    without = drawn(draw_curves, Curves.from_metrics(metrics(3, rate=None)))
    assert "learning rate" in with_rate.texts and "learning rate" not in without.texts
    assert without.height < with_rate.height


def test_one_evaluation_is_a_point(drawn):
    svg = drawn(draw_curves, Curves.from_metrics(metrics(1, best=0)))
    assert {"best, step 10", "10", "step"} <= set(svg.texts)


def test_no_evaluation_is_said(drawn):
    texts = drawn(draw_curves, Curves.from_metrics([])).texts
    assert sorted(texts) == ["loss", "no evaluation yet"]


def test_missing_figures_are_gaps(drawn):
    lines = metrics(6)
    lines[2]["train_loss"] = lines[4]["train_loss"] = None
    lines[3]["measures"]["loss"] = NAN
    lines[1]["measures"]["loss"] = math.inf
    curves = Curves.from_metrics(lines)
    assert [row for row in range(6) if math.isnan(curves.train_loss[row])] == [2, 4]
    assert [row for row in range(6) if math.isnan(curves.valid_loss[row])] == [1, 3]
    assert "validation" in drawn(draw_curves, curves).texts
    for line in lines[:6]:
        line["train_loss"], line["measures"] = None, {}
    assert "no finite loss" in drawn(draw_curves, Curves.from_metrics(lines)).texts


def test_a_loss_that_falls_by_orders_has_a_logarithmic_axis(drawn):
    lines = metrics(5)
    for row, line in enumerate(lines[:5]):
        line["train_loss"] = line["measures"]["loss"] = 10.0 ** (2 - row)
    texts = drawn(draw_curves, Curves.from_metrics(lines)).texts
    assert {"0.01", "0.1", "1", "10", "100"} <= set(texts)
    assert not any("$" in text for text in texts)


@pytest.mark.slow
def test_a_hundred_thousand_evaluations_are_drawn_in_a_second(drawn):
    values = [2.0 + math.sin(step) for step in range(100_000)]
    curves = Curves(range(100_000), values, values, values, "chrf", "chrF", values, 99_000)
    drawn(draw_curves, Curves.from_metrics([]))  # imports matplotlib
    start = time.process_time()
    svg = drawn(draw_curves, curves)
    assert time.process_time() - start < 2.0
    assert len(svg.source) < 200_000
