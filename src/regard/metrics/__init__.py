"""How good the outputs are: thin wrappers over the field's own scorers, and floors beside them."""

from regard.metrics.baselines import NearestNeighbor, copy_source
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
    "bleu",
    "chrf",
    "compare_translations",
    "copy_source",
    "exact_match",
    "score_translations",
    "worst_translations",
]
