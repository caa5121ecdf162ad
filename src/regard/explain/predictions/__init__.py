"""Predictions to explain, one file for each kind of output."""

from regard.explain.predictions.answer_span import AnswerSpan
from regard.explain.predictions.classified_input import ClassifiedInput
from regard.explain.predictions.classified_text import ClassifiedText
from regard.explain.predictions.continued_text import ContinuedText
from regard.explain.predictions.forecast_steps import ForecastSteps
from regard.explain.predictions.written_target import WrittenTarget

__all__ = [
    "AnswerSpan",
    "ClassifiedInput",
    "ClassifiedText",
    "ContinuedText",
    "ForecastSteps",
    "WrittenTarget",
]
