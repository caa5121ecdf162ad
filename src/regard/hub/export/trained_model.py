"""The parts of a trained model that an export writes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.sentence_transformers import SentencePooling
from regard.layers.attention_config import AttentionConfig
from regard.models import Model, ModelConfig


class TrainedModel(NamedTuple):
    """A trained model with what belongs to it.

    Args:
        model: Model in evaluation mode.
        tokenizer: Its vocabulary; None where it reads no text.
        attention: Its patterns.
        inputs: What it reads, in the plural: texts, images, recordings or series.
        search: Settings of beam search; None for a model that does not search.
        sampling: Settings of continuations; None for a model that does not write any.
        max_length: Maximum number of tokens that a classifier reads of a text, and of a source that
            is not translated in parts; None is as many as the model can.
        pooling: How an encoder's states become the vector of a text; None for other models.
        labels: Labels of a classifier, in the order of its logits; empty for other models.
        mean: Mean of each channel of images, in pixel values of 0 to 255; empty is 0.
        std: Their standard deviations; empty is 1.
        new_models: Configuration that a run gives a model of each family by itself, for advice
            where this model cannot be written.
    """

    model: Model
    tokenizer: AnyTokenizer | None
    attention: AttentionConfig
    inputs: str = "texts"
    search: BeamSearchConfig | None = None
    sampling: SamplingConfig | None = None
    max_length: int | None = None
    pooling: SentencePooling | None = None
    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    new_models: Mapping[str, ModelConfig] = MappingProxyType({})
