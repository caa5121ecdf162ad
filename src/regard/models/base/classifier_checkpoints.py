"""How published classifiers of texts name and store the layers after their encoder.

``transformers`` has a class ``...ForSequenceClassification`` for each encoder: a linear map of the
text's vector with an activation, then a linear map to the labels. Here the first is the
encoder's pooler and the second the classifier's own, so a `LabelHead` only gives their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import (
    CheckpointFormat,
    LabelHead,
    ParameterMapping,
    label_fields,
    map_layer,
    require_settings,
)
from regard.models.base.encoder import EncoderConfig

C = TypeVar("C", bound=EncoderConfig)


def with_label_head(config: C, head: LabelHead) -> C:
    """Return an encoder's configuration with the pooler of a published classifier's head."""
    if head.is_pooler:
        return msgspec.structs.replace(config, has_mlm_head=False, has_pooler=True)
    return msgspec.structs.replace(
        config, has_mlm_head=False, has_pooler=True, pooler_activation=head.activation
    )


def map_classifier_parameters(
    config: EncoderConfig, checkpoint_format: CheckpointFormat, head: LabelHead
) -> list[ParameterMapping]:
    """Return the mapping of every parameter of a `Classifier`.

    Args:
        config: Configuration of its encoder.
        checkpoint_format: Format of that encoder.
        head: Head of the format.

    Returns:
        The mappings, by the classifier's own names.
    """
    mappings = [
        mapping._replace(local=f"encoder.{mapping.local}")
        for mapping in checkpoint_format.map_parameters(_without_head(config, head))
    ]
    if not head.is_pooler:
        mappings += map_layer("encoder.pooler", head.dense)
    return mappings + [
        ParameterMapping(f"output_{kind}", (f"{head.output}.{kind}",))
        for kind in ("weight", "bias")
    ]


def checkpoint_of(
    config: Any, checkpoint_format: CheckpointFormat, vocab_size: int, labels: Sequence[str] = ()
) -> tuple[dict[str, Any], list[ParameterMapping]]:
    """Return how a format stores a model: the fields of ``config.json`` and the tensors' names.

    Args:
        config: The model's; of a classifier that of its encoder.
        checkpoint_format: One of its family.
        vocab_size: Number of token ids.
        labels: Labels of a classifier of texts, in the order of its logits; empty for other models.

    Raises:
        ConfigError: The format cannot express a setting, or has no classifiers.
    """
    head = checkpoint_format.label_head
    if not labels:
        # Longformer's: outside classifiers `transformers` has global tokens only by a mask.
        only: dict[str, Any] = {"num_global": 0, "question_end_id": None}
        if head is not None and head.is_pooler and not config.has_mlm_head:
            only["has_pooler"] = False
        require_settings(config, only, kind=f"{checkpoint_format.model_type} encoders")
        return checkpoint_format.write(config, vocab_size), checkpoint_format.map_parameters(config)
    if head is None:
        raise ConfigError(
            f"labels: {checkpoint_format.model_type} checkpoints hold no classifiers of texts."
        )
    fields = checkpoint_format.write(_without_head(config, head), vocab_size)
    of_head = {"pooling": "first", "pooler_activation": head.activation}
    only = {
        **({} if head.is_pooler else of_head),
        "has_pooler": True,
        # Longformer's: `transformers` has the first token in every classifier.
        "num_global": 1,
        "question_end_id": None,
    }
    require_settings(config, only, kind=f"{checkpoint_format.model_type} checkpoints with labels")
    architecture = fields["architectures"][0].removesuffix("Model")
    fields |= {
        **label_fields(labels),
        "architectures": [architecture + "ForSequenceClassification"],
        "problem_type": "single_label_classification",
    }
    return fields, map_classifier_parameters(config, checkpoint_format, head)


def _without_head(config: C, head: LabelHead) -> C:
    if head.is_pooler:
        return with_label_head(config, head)
    return msgspec.structs.replace(
        config, has_mlm_head=False, has_pooler=False, pooler_activation="tanh"
    )
