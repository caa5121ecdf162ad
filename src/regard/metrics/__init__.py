"""Scores of what models of every task give, and baselines to compare them with."""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

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
        worst_summaries,
    )
    from regard.metrics.translation import (
        PairedScores,
        TranslationScores,
        bleu,
        chrf,
        compare_translations,
        exact_match,
        score_translations,
        worst_translations,
    )

import_lazily(__name__)

__all__ = [
    "AnswerScores",
    "ForecastScores",
    "MetricWithInterval",
    "NearestNeighbor",
    "PairedAnswerScores",
    "PairedForecastScores",
    "PairedScore",
    "PairedScores",
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
    "macro_f1",
    "mean_absolute_scaled_error",
    "rouge_l",
    "score_answers",
    "score_forecasts",
    "score_summaries",
    "score_translations",
    "weighted_quantile_loss",
    "wilson_interval",
    "worst_summaries",
    "worst_translations",
]
