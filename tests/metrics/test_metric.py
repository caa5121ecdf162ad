"""What people read of metrics, in one place for all that print or draw them."""

from regard.metrics import FLOORS, METRICS, FloorScore, Metric, floor_named, metric_named


def test_a_title_begins_a_line_with_a_capital_unless_it_is_spelled_otherwise():
    titles = [METRICS[name].heading for name in ("exact_match", "chrf", "rougeL", "f1")]
    assert titles == ["Exact match", "chrF", "ROUGE-L", "F1"]


def test_an_axis_has_the_unit_and_a_column_the_short_title():
    assert METRICS["exact_match"].axis == "exact match (%)"
    assert METRICS["exact_match"].column == "exact"
    assert METRICS["perplexity"].axis == METRICS["perplexity"].column == "perplexity"


def test_lower_is_better_for_losses_and_errors_and_for_no_score_in_percent():
    lower = {name for name, metric in METRICS.items() if metric.is_better_lower}
    assert lower == {"loss", "shuffled_loss", "bits_per_byte", "mase", "perplexity", "wql"}
    assert not any(METRICS[name].unit for name in lower)


def test_a_figure_that_is_not_registered_has_its_name_as_its_title():
    assert metric_named("left") == Metric("left")
    assert metric_named("left").axis == "left"


def test_a_floor_is_compared_with_a_metric_and_one_of_a_forecaster_says_with_which():
    assert {floor.metric for floor in FLOORS.values()} <= set(METRICS)
    assert floor_named("copy_chrf") == FloorScore("copying the source", "chrf", has_article=False)
    phrases = [floor_named(name).phrase for name in ("copy_chrf", "majority")]
    assert phrases == ["copying the source", "the most frequent label"]
    assert floor_named("seasonal_naive_mase") == FloorScore("seasonal naive", "mase")
