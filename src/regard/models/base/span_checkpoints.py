"""How published models of answers name and store the layer after their encoder.

``transformers`` has a class ``...ForQuestionAnswering`` for each encoder: one linear map from each
token's state to its two logits. ModernBERT's has its prediction head before that, as its
classifiers have.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    ParameterMapping,
    SettingError,
    require_settings,
)
from regard.models.base.encoder import EncoderConfig

C = TypeVar("C", bound=EncoderConfig)

UNUSED_POOLER = (".pooler.dense.weight", ".pooler.dense.bias")
"""Endings of names of a layer that old files have and no model of answers uses."""


def with_span_head(config: C) -> C:
    """Return an encoder's configuration without the heads that a model of answers lacks."""
    has_pooler = config.has_pooler and config.pools_every_vector
    return msgspec.structs.replace(config, has_mlm_head=False, has_pooler=has_pooler)


def map_span_parameters(
    config: EncoderConfig, checkpoint_format: CheckpointFormat
) -> list[ParameterMapping]:
    """Return the mapping of every parameter of a `SpanModel` without roles of tokens.

    Args:
        config: Configuration of its encoder, as `with_span_head` returns it.
        checkpoint_format: Format of that encoder.

    Returns:
        The mappings, by the model's own names.
    """
    mappings = [
        mapping._replace(local=f"encoder.{mapping.local}")
        for mapping in checkpoint_format.map_parameters(config)
    ]
    return mappings + [
        ParameterMapping(f"output_{kind}", (f"{checkpoint_format.span_output}.{kind}",))
        for kind in ("weight", "bias")
    ]


def span_checkpoint_of(
    config: EncoderConfig, checkpoint_format: CheckpointFormat, vocab_size: int
) -> tuple[dict[str, Any], list[ParameterMapping]]:
    """Return how a format stores a model of answers: fields of ``config.json`` and tensor names.

    Args:
        config: Configuration of its encoder.
        checkpoint_format: One of its family.
        vocab_size: Number of token ids.

    Raises:
        ConfigError: The format cannot express a setting, or computes these models otherwise.
        SettingError: Question and text have the same segment.
    """
    has_local_questions = getattr(config, "question_end_id", None) is None
    kind = f"{checkpoint_format.model_type} checkpoints of answers"
    if checkpoint_format.has_global_questions and has_local_questions:
        raise ConfigError(
            f"{kind} have global attention at every token of the question, up to the first of "
            "three tokens that end texts, and this model has not (`model.question_end_id`)."
        )
    if checkpoint_format.reads_segments and config.num_segments == 1:
        sentence = f"model.num_segments=1: {kind} have 2 or more."
        raise SettingError([sentence], {"num_segments": 2})
    config = with_span_head(config)
    if config.pools_every_vector:
        require_settings(config, {"has_pooler": True}, kind=kind)
    fields = checkpoint_format.write(config, vocab_size)
    architecture = fields["architectures"][0].removesuffix("Model")
    fields["architectures"] = [architecture + "ForQuestionAnswering"]
    return fields, map_span_parameters(config, checkpoint_format)
