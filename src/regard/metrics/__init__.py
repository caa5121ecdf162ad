"""Scores of what models of every task give, and baselines to compare them with."""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily
from regard.metrics.metric import FloorScore, Metric

if TYPE_CHECKING:
    from regard.metrics.answers import (
        AnswerScores,
        PairedAnswerScores,
        compare_answers,
        score_answers,
    )
    from regard.metrics.baselines import NearestNeighbor, copy_source
    from regard.metrics.bootstrap import MetricWithInterval, PairedScore
    from regard.metrics.classification import accuracy, macro_f1, wilson_interval
    from regard.metrics.forecasts import (
        ForecastScores,
        PairedForecastScores,
        compare_forecasts,
        coverage,
        mean_absolute_scaled_error,
        score_forecasts,
        weighted_quantile_loss,
    )
    from regard.metrics.rouge import (
        RougeScores,
        compare_summaries,
        rouge_l,
        score_summaries,
    )
    from regard.metrics.translation import (
        TranslationScores,
        bleu,
        chrf,
        compare_translations,
        exact_match,
        score_translations,
    )

import_lazily(__name__)

METRICS: dict[str, Metric] = {
    "loss": Metric("loss", num_digits=3, short="valid", is_better_lower=True),
    "shuffled_loss": Metric(
        "loss with other sources", num_digits=3, short="shuffled", is_better_lower=True
    ),
    "accuracy": Metric("accuracy", "%"),
    "bits_per_byte": Metric("bits per byte", num_digits=3, short="bits/byte", is_better_lower=True),
    "bleu": Metric("BLEU", "0 to 100"),
    "chrf": Metric("chrF", "0 to 100"),
    "coverage80": Metric("in the 80 % band", "%", short="80 % band"),
    "coverage95": Metric("in the 95 % band", "%", short="95 % band"),
    "exact_match": Metric("exact match", "%", short="exact"),
    "f1": Metric("F1", "%"),
    "macro_f1": Metric("macro F1", "%"),
    "mase": Metric("MASE", num_digits=3, is_better_lower=True),
    "micro_f1": Metric("micro F1", "%"),
    "no_answer_f1": Metric("F1 of “no answer”", "%"),
    "perplexity": Metric("perplexity", num_digits=2, is_better_lower=True),
    "rouge1": Metric("ROUGE-1", "0 to 100"),
    "rouge2": Metric("ROUGE-2", "0 to 100"),
    "rougeL": Metric("ROUGE-L", "0 to 100"),
    "rougeLsum": Metric("ROUGE-Lsum", "0 to 100", short="R-Lsum"),
    "wql": Metric("WQL", num_digits=4, is_better_lower=True),
}
"""What people read of each figure of evaluations, by its name in files."""
FLOORS: dict[str, FloorScore] = {
    "byte_entropy": FloorScore("single bytes", "bits_per_byte", has_article=False),
    "compressed": FloorScore("xz", "bits_per_byte", has_article=False),
    "copy_chrf": FloorScore("copying the source", "chrf", has_article=False),
    "first_sentence": FloorScore("first sentence", "rougeL"),
    "first_sentence_f1": FloorScore("first sentence", "f1"),
    "first_words": FloorScore("first words", "rougeL"),
    "frequent_label_f1": FloorScore(
        "always the most frequent label", "micro_f1", has_article=False
    ),
    "majority": FloorScore("most frequent label", "accuracy"),
    "neighbour_chrf": FloorScore("nearest training sentence", "chrf"),
    "no_labels": FloorScore("never a label", "exact_match", has_article=False),
    "no_answer_f1_of_all": FloorScore('always "no answer"', "f1", has_article=False),
    "overlap_sentence_f1": FloorScore("sentence with most words of the question", "f1"),
}
"""The floors of evaluations by their names in files, but those of forecasters."""


def floor_named(name: str) -> FloorScore:
    """Return the record of a floor; one of a forecaster is named for both: ``naive_mase``."""
    if name in FLOORS:
        return FLOORS[name]
    title, _, metric = name.rpartition("_")
    return FloorScore(title.replace("_", " "), metric)


def metric_named(name: str) -> Metric:
    """Return the record of a figure; one that is not in `METRICS` has its name as its title."""
    return METRICS.get(name, Metric(name))


__all__ = [
    "FLOORS",
    "METRICS",
    "AnswerScores",
    "FloorScore",
    "ForecastScores",
    "Metric",
    "MetricWithInterval",
    "NearestNeighbor",
    "PairedAnswerScores",
    "PairedForecastScores",
    "PairedScore",
    "RougeScores",
    "TranslationScores",
    "accuracy",
    "bleu",
    "chrf",
    "compare_answers",
    "compare_forecasts",
    "compare_summaries",
    "compare_translations",
    "copy_source",
    "coverage",
    "exact_match",
    "floor_named",
    "macro_f1",
    "mean_absolute_scaled_error",
    "metric_named",
    "rouge_l",
    "score_answers",
    "score_forecasts",
    "score_summaries",
    "score_translations",
    "weighted_quantile_loss",
    "wilson_interval",
]
