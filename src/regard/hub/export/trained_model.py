"""The parts of a trained model that an export writes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from regard.data.readers.audio import LogMelConfig
from regard.data.time_series import TimeStep
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.sentence_transformers import SentencePooling
from regard.layers.attention_config import AttentionConfig
from regard.models import Model, ModelConfig


class SpanSearch(NamedTuple):
    """How answers are found by the logits of their ends.

    Args:
        max_length: Maximum number of tokens of a window: question, part of the text, and the
            special tokens around them.
        max_question: Maximum number of tokens of a question.
        overlap: Tokens of the text that neighbouring windows share.
        max_answer_tokens: Maximum number of tokens of an answer.
        threshold: How much more likely "no answer" must be than the best span, in nats; None always
            gives the best span.
    """

    max_length: int
    max_question: int
    overlap: int
    max_answer_tokens: int
    threshold: float | None


class SeriesCalendar(NamedTuple):
    """What a forecaster knows of time, and how its bands are stretched.

    Args:
        step: Distance of two values.
        cycles: Names of the cycles of the calendar that it reads.
        seasons: Periods in steps; of series without a calendar those that it reads.
        num_harmonics: Multiples of each cycle or season that it reads.
        bands: Factors by which its bands are stretched, outermost first.
    """

    step: TimeStep
    cycles: tuple[str, ...]
    seasons: tuple[int, ...]
    num_harmonics: tuple[int, ...]
    bands: tuple[float, ...]


class TrainedModel(NamedTuple):
    """A trained model with what belongs to it.

    Args:
        model: Model in evaluation mode.
        tokenizer: Its vocabulary; None where it reads no text.
        attention: Its patterns.
        task: Name of the task that it was trained for.
        inputs: What it reads, in the plural: texts, images, recordings or series.
        search: Settings of beam search; None for a model that does not search.
        sampling: Settings of continuations; None for a model that does not write any.
        max_length: Maximum number of tokens that a classifier reads of a text, and of a source that
            is not translated in parts; None is as many as the model can.
        source_prefix: Text that every source begins with; empty where there is none.
        context_prefix: Text between a question and its text; empty where a token separates them.
        uses: What a published folder says of the tasks of a model that is exported for all of them,
            see `read_uses`.
        pooling: How an encoder's states become the vector of a text; None for other models.
        labels: Labels of a classifier, in the order of its logits; empty for other models.
        label_threshold: Probability above which a text has a label, of a classifier that gives it
            any number of them; None of other models.
        model_type: Checkpoint format of the published weights that it began with; empty where there
            were none.
        mean: Mean of each channel of images, in pixel values of 0 to 255; empty is 0.
        std: Their standard deviations; empty is 1.
        span_search: How a model that finds answers is asked; None for other models.
        audio: How recordings become rows of features; None for other models.
        calendar: What a forecaster knows of time; None for other models.
        new_models: Configuration that a run gives a model of each family by itself, for advice
            where this model cannot be written.
    """

    model: Model
    tokenizer: AnyTokenizer | None
    attention: AttentionConfig
    task: str = ""
    inputs: str = "texts"
    search: BeamSearchConfig | None = None
    sampling: SamplingConfig | None = None
    max_length: int | None = None
    source_prefix: str = ""
    context_prefix: str = ""
    uses: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    pooling: SentencePooling | None = None
    labels: tuple[str, ...] = ()
    label_threshold: float | None = None
    model_type: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    span_search: SpanSearch | None = None
    audio: LogMelConfig | None = None
    calendar: SeriesCalendar | None = None
    new_models: Mapping[str, ModelConfig] = MappingProxyType({})


def describe_threshold(trained: TrainedModel) -> str:
    """Return which labels a text has, in a sentence behind others; empty where it has one."""
    if trained.label_threshold is None:
        return ""
    return f" A text has those whose probability is above {trained.label_threshold:.4g}, or none."
