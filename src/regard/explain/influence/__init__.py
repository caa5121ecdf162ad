"""Influence of training rows: what an output owes to them, and whether training again agrees."""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.explain.influence.influence_document import influence_document
    from regard.explain.influence.influence_options import InfluenceOptions
    from regard.explain.influence.retraining import (
        Retrainer,
        retrain_without,
        score_with,
        training_length,
    )
    from regard.explain.influence.training_influence import (
        RowInfluence,
        influence_on,
        row_influence,
    )
    from regard.explain.influence.training_objective import TrainingObjective, open_training

import_lazily(__name__)

__all__ = [
    "InfluenceOptions",
    "Retrainer",
    "RowInfluence",
    "TrainingObjective",
    "influence_document",
    "influence_on",
    "open_training",
    "retrain_without",
    "row_influence",
    "score_with",
    "training_length",
]
