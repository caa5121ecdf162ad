"""The parts of a trained model that an export writes."""

from __future__ import annotations

from typing import NamedTuple

from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.layers.attention_config import AttentionConfig
from regard.models import Model


class TrainedModel(NamedTuple):
    """A trained model with what belongs to it.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary; None where it reads no text.
        attention: Its patterns.
        inputs: What it reads, in the plural: texts, images, recordings or series.
        search: Settings of beam search; None where there is no search.
        labels: Of a classifier, in the order of its logits; empty for other models.
        mean: Of each channel of images, in pixel values of 0 to 255; empty is 0.
        std: Their standard deviations; empty is 1.
    """

    model: Model
    tokenizer: AnyTokenizer | None
    attention: AttentionConfig
    inputs: str = "texts"
    search: BeamSearchConfig | None = None
    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
