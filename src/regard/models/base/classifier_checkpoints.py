"""How published classifiers of texts name and lay out what stands behind their encoder.

``transformers`` has a class ``...ForSequenceClassification`` for each encoder: a map of the first
token's state with an activation, then a map to the labels. Here the first is the encoder's pooler
and the second the classifier's own, so a layout need only tell their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import LabelHead, Layout, Place
from regard.models.base.encoder import EncoderConfig

C = TypeVar("C", bound=EncoderConfig)


def with_label_head(config: C, head: LabelHead) -> C:
    """Give an encoder's configuration the pooler of a published classifier.

    Args:
        config: Of the encoder.
        head: Of its layout.
    """
    return msgspec.structs.replace(
        config, has_mlm_head=False, has_pooler=True, pooler_activation=head.activation
    )


def classifier_places(config: EncoderConfig, layout: Layout, head: LabelHead) -> list[Place]:
    """List where every parameter of a `Classifier` stands.

    Args:
        config: Of its encoder.
        layout: Of that encoder.
        head: Of the layout.
    """
    places = [
        place._replace(ours=f"encoder.{place.ours}")
        for place in layout.places(_without_head(config))
    ]
    for ours, theirs in (("encoder.pooler.", head.dense), ("output_", head.output)):
        places += [Place(f"{ours}{kind}", (f"{theirs}.{kind}",)) for kind in ("weight", "bias")]
    return places


def classifier_fields(
    config: EncoderConfig, layout: Layout, head: LabelHead, vocab_size: int, labels: Sequence[str]
) -> dict[str, Any]:
    """Write the ``config.json`` of a classifier.

    Args:
        config: Of its encoder.
        layout: Of that encoder.
        head: Of the layout.
        vocab_size: Number of token ids.
        labels: Their names, in the order of the logits.

    Raises:
        ConfigError: The layout has no place for a setting.
    """
    fields = layout.write(_without_head(config), vocab_size)
    model_type, architecture = fields["model_type"], fields["architectures"][0]
    wanted = {
        "pooling": "first",
        "has_pooler": True,
        "pooler_activation": head.activation,
        "num_global": 1,  # Longformer's: `transformers` has the first token in every classifier
    }
    for name, only in wanted.items():
        if (given := getattr(config, name, only)) != only:
            raise ConfigError(
                f"model.{name}={_shown(given)}: classifiers of the layout {model_type} of "
                f"transformers have {_shown(only)} only."
            )
    return fields | {
        "architectures": [architecture.removesuffix("Model") + "ForSequenceClassification"],
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


def _without_head(config: C) -> C:
    return msgspec.structs.replace(
        config, has_mlm_head=False, has_pooler=False, pooler_activation="tanh"
    )


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def published_form(
    config: Any, layout: Layout, vocab_size: int, labels: Sequence[str] = ()
) -> tuple[dict[str, Any], list[Place]]:
    """Tell how a layout writes a model: the fields of ``config.json``, and the places of tensors.

    Args:
        config: The model's; of a classifier that of its encoder.
        layout: One of its family.
        vocab_size: Number of token ids.
        labels: Of a classifier of texts, in the order of its logits; empty where it is none.

    Raises:
        ConfigError: The layout has no place for a setting, or for classifiers.
    """
    if not labels:
        return layout.write(config, vocab_size), layout.places(config)
    head = layout.labels
    if head is None:
        raise ConfigError("labels: the layout has no classifiers of texts.")
    fields = classifier_fields(config, layout, head, vocab_size, labels)
    return fields, classifier_places(config, layout, head)
