"""The influence of training rows on a prediction, from the model alone to the document."""

from __future__ import annotations

import msgspec

from regard.errors import ConfigError
from regard.explain.document import TrainingInfluence
from regard.explain.influence.influence_options import InfluenceOptions, RowProgress
from regard.explain.influence.retraining import (
    require_repeatable,
    retrain_without,
    training_length,
)
from regard.explain.influence.training_influence import require_probabilities, row_influence
from regard.explain.influence.training_objective import TrainingObjective, open_training
from regard.explain.prediction import Prediction
from regard.hub.model_folder import ModelFolder
from regard.tasks import Predictor

_LEFT_OUT = 0.01  # of the rows, for a training without them


def influence_document(
    predictor: Predictor,
    prediction: Prediction,
    options: InfluenceOptions,
    on_progress: RowProgress | None = None,
) -> TrainingInfluence:
    """Compute what the outputs of a prediction owe to the rows that its model was trained on.

    Args:
        predictor: The model, from `regard.load` or `regard.train`.
        prediction: Of this model.
        options: How influence is computed, and whether training again checks it.
        on_progress: Hears of the computation.

    Returns:
        The document.

    Raises:
        ConfigError: The model was not trained here, its outputs have no probabilities, or its
            training cannot be repeated without as many rows.
        DataError: The training data is missing or has changed.
        WeightsError: The folder has no record of a training that could be repeated.
    """
    predicted = require_probabilities(prediction)
    length = None
    if options.num_retrainings:
        if predictor.folder is None:
            raise ConfigError("a model that was not opened from a folder cannot be trained again.")
        length = training_length(ModelFolder(predictor.folder))
    objective = TrainingObjective(open_training(predictor))
    num_rows = int(objective.owners.max()) + 1
    num_left_out = max(options.num_rows, round(_LEFT_OUT * num_rows))
    if length is not None:  # before minutes of influence
        require_repeatable(objective.setup, num_left_out, num_rows)
    influence = row_influence(predicted, objective, options, on_progress)
    document = influence.report(options.num_rows)
    if length is None:
        return document
    retraining = retrain_without(
        influence,
        predicted,
        length,
        num_left_out=num_left_out,
        num_seeds=options.num_retrainings,
        on_progress=on_progress,
    )
    return msgspec.structs.replace(document, retraining=retraining)
