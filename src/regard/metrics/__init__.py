"""Scores of translations by sacrebleu, scores of labels, and baselines to compare them with."""

from regard.metrics.baselines import NearestNeighbor, copy_source
from regard.metrics.classification import accuracy, macro_f1, wilson_interval
from regard.metrics.translation import (
    MetricWithInterval,
    PairedScore,
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
    "MetricWithInterval",
    "NearestNeighbor",
    "PairedScore",
    "PairedScores",
    "TranslationScores",
    "accuracy",
    "bleu",
    "chrf",
    "compare_translations",
    "copy_source",
    "exact_match",
    "macro_f1",
    "score_translations",
    "wilson_interval",
    "worst_translations",
]
