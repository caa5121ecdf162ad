"""How good the outputs are: thin wrappers over the field's own scorers, and floors beside them."""

from regard.metrics.baselines import NearestNeighbour, copy_floor
from regard.metrics.translation import (
    PairedScore,
    PairedScores,
    Score,
    TranslationScores,
    bleu,
    chrf,
    compare_translations,
    exact_match,
    score_translations,
    worst_translations,
)

__all__ = [
    "NearestNeighbour",
    "PairedScore",
    "PairedScores",
    "Score",
    "TranslationScores",
    "bleu",
    "chrf",
    "compare_translations",
    "copy_floor",
    "exact_match",
    "score_translations",
    "worst_translations",
]
