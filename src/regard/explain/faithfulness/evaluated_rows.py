"""The rows of a test file as predictions to explain, whatever the task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from regard.data.readers.source import DataSource, as_source
from regard.errors import ConfigError
from regard.explain.open_prediction import (
    classify_values,
    forecast_series,
    predict,
    refusal_of,
)
from regard.explain.prediction import Prediction
from regard.tasks import Predictor
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.generative_question_answering.predictor import AnswerWriter
from regard.tasks.language_modeling.data import read_lines_of
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.question_answering.data import read_questions_of
from regard.tasks.question_answering.predictor import QuestionAnswerer
from regard.tasks.summarization.data import read_documents
from regard.tasks.summarization.predictor import Summarizer
from regard.tasks.translation.data import read_pairs_of
from regard.tasks.translation.predictor import Translator

NUM_ROWS = 200
_PROMPT_CHARACTERS = 120  # of a line of running text, whose continuation is explained
_SEED = 0

OpenRow = Callable[[], Prediction]
"""Opens the prediction of one row."""


def open_rows(
    predictor: Predictor, data: DataSource | str | Path, *, num_rows: int = NUM_ROWS
) -> list[OpenRow]:
    """Read a test file by the model's own task, and draw rows of it.

    Args:
        predictor: From `regard.load`.
        data: The file, read with the settings of the training data.
        num_rows: Most rows, 1 or more; they are drawn from the whole file, always the same ones.

    Returns:
        A function for each row, in the order of the file, that opens what the model predicts for
        it.

    Raises:
        ConfigError: The task has no explanation, or `num_rows` is less than 1.
        DataError: The file cannot be read.
    """
    if num_rows < 1:
        raise ConfigError(f"rows={num_rows}: it must be 1 or more.")
    rows = _read_rows(predictor, as_source(data, "test"))
    if len(rows) > num_rows:
        drawn = np.random.default_rng(_SEED).choice(len(rows), num_rows, replace=False)
        rows = [rows[index] for index in sorted(drawn.tolist())]
    return rows


def _read_rows(predictor: Predictor, data: DataSource) -> list[OpenRow]:
    """Return a function for each row of a file."""
    config = predictor.config.data
    if isinstance(predictor, InputClassifier):
        return _open_each(classify_values, predictor, predictor.read_test(data).values)
    if isinstance(predictor, Forecaster):
        series = predictor.read(data).series
        each = [series.select([index]) for index in range(len(series))]
        return _open_each(forecast_series, predictor, each)
    if isinstance(predictor, QuestionAnswerer | AnswerWriter):
        questions = read_questions_of(data, config)
        return [
            partial(predict, predictor, question, context=context)
            for question, context in zip(questions.questions, questions.contexts, strict=True)
        ]
    return _open_each(predict, predictor, _read_texts(predictor, data))


def _open_each(
    open_row: Callable[..., Prediction], predictor: Predictor, rows: Iterable[object]
) -> list[OpenRow]:
    return [partial(open_row, predictor, row) for row in rows]


def _read_texts(predictor: Predictor, data: DataSource) -> Sequence[str]:
    """Return the inputs of a model that reads one text."""
    config = predictor.config.data
    if isinstance(predictor, TextClassifier):
        return predictor.read_test(data).texts
    if isinstance(predictor, TextGenerator):
        lines = read_lines_of(data, config).texts
        return [line[:_PROMPT_CHARACTERS].strip() for line in lines if line.strip()]
    if isinstance(predictor, Translator):
        return read_pairs_of(data, config).sources
    if isinstance(predictor, Summarizer):
        return read_documents(data, config).sources
    raise ConfigError(refusal_of(predictor.config.task))
