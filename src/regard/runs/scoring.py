"""Evaluation of a trained model of any task on new data."""

from __future__ import annotations

from pathlib import Path

from regard.errors import ConfigError
from regard.tasks.classification.evaluation import ClassificationReport, evaluate_classifier
from regard.tasks.classification.predictor import LabelPredictor
from regard.tasks.language_modeling.evaluation import (
    TextReport,
    evaluate_text,
    read_test_text,
)
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.opening import Predictor, open_model
from regard.tasks.translation.evaluation import (
    TranslationReport,
    evaluate_model,
    read_test_pairs,
)
from regard.tasks.translation.predictor import Translator

EvaluationReport = TranslationReport | TextReport | ClassificationReport


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    compare: str | Path | None = None,
    beam: int | None = None,
    num_worst: int = 20,
    drop_overlap: bool = False,
    allow_overlap: bool = False,
) -> tuple[EvaluationReport, Predictor]:
    """Score a model on a file, next to baselines and another model.

    Args:
        model: Folder of a trained model.
        data: Data of the kind that the model was trained on: a file of sentence pairs, running text
            or labeled rows, or a folder of images or recordings.
        compare: Folder of another model.
        beam: Hypotheses in the beam search of a translation; None uses the setting of each model.
        num_worst: Number of worst translations, or of wrong labels, to list.
        drop_overlap: Drop rows that are also in the training data.
        allow_overlap: Keep rows that are also in the training data.

    Returns:
        The scores, and the opened model.

    Raises:
        ConfigError: The model has no scores, or the two are for different tasks.
        DataError: The data cannot be read, or overlaps with the training data.
        WeightsError: A folder holds no model.
    """
    predictor = open_model(model)
    other = None if compare is None else open_model(compare)
    if other is not None and type(other) is not type(predictor):
        raise ConfigError(f"{model} and {compare} were trained for different tasks.")
    path, name = str(data), str(model)
    overlap = {"drop_overlap": drop_overlap, "allow_overlap": allow_overlap}
    if isinstance(predictor, Translator):
        assert other is None or isinstance(other, Translator)
        pairs = read_test_pairs(path, predictor, **overlap)
        report: EvaluationReport = evaluate_model(
            predictor, pairs, name=name, beam=beam, other=other, num_worst=num_worst
        )
    elif isinstance(predictor, TextGenerator):
        assert other is None or isinstance(other, TextGenerator)
        lines = read_test_text(path, predictor, **overlap)
        report = evaluate_text(predictor, lines, name=name, other=other)
    elif isinstance(predictor, LabelPredictor):
        assert other is None or isinstance(other, LabelPredictor)
        report = evaluate_classifier(
            predictor, path, name=name, other=other, num_worst=num_worst, **overlap
        )
    else:
        raise ConfigError(
            f"{model}: translators, language models and classifiers can be evaluated on a file."
        )
    return report, predictor
