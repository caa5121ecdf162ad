"""Scores of translations, summaries, answers and labels, and baselines to compare them with."""

from regard.metrics.answers import (
    AnswerScores,
    PairedAnswerScores,
    compare_answers,
    score_answers,
)
from regard.metrics.baselines import NearestNeighbor, copy_source
from regard.metrics.bootstrap import MetricWithInterval, PairedScore
from regard.metrics.classification import accuracy, macro_f1, wilson_interval
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

__all__ = [
    "AnswerScores",
    "MetricWithInterval",
    "NearestNeighbor",
    "PairedAnswerScores",
    "PairedScore",
    "PairedScores",
    "RougeScores",
    "TranslationScores",
    "accuracy",
    "bleu",
    "chrf",
    "compare_answers",
    "compare_summaries",
    "compare_translations",
    "copy_source",
    "exact_match",
    "macro_f1",
    "rouge_l",
    "score_answers",
    "score_summaries",
    "score_translations",
    "wilson_interval",
    "worst_summaries",
    "worst_translations",
]
