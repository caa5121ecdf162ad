"""The head of a checkpoint, by the class of ``transformers`` that ``config.json`` names.

Weights of different heads can have the same names: those of a next-sentence model are an encoder
with a small linear map that no model here has. So the class decides, and the tensors only where no
class is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regard.errors import ConfigError
from regard.hub.file_names import HF_CONFIG
from regard.models import DECODERS, ENCODERS, INPUT_ENCODERS, CheckpointFormat

LABELS_OF_TEXTS = "ForSequenceClassification"
_ROLES = (
    (ENCODERS, ("Model", "ForMaskedLM", "ForPreTraining", LABELS_OF_TEXTS)),
    (DECODERS, ("Model", "LMHeadModel", "ForCausalLM")),
    (INPUT_ENCODERS, ("Model", "ForImageClassification")),
)
"""Endings of the names of classes whose head is read, by the role of the family."""
_TEXTS_OUT = ("Model", "MTModel", "ForConditionalGeneration")  # encoder-decoders
_OUTPUTS = {
    "ForTokenClassification": "labels of tokens",
    "ForQuestionAnswering": "the positions of answers",
    "ForNextSentencePrediction": "whether two texts follow each other",
    "ForMultipleChoice": "a choice among several texts",
    LABELS_OF_TEXTS: "labels of texts",
    "ForMaskedImageModeling": "hidden patches",
    "ForCausalLM": "continuations of texts",
    "LMHeadModel": "continuations of texts",
    "DoubleHeadsModel": "continuations and a choice among them",
}
_HEAD = re.compile(r"(LMHeadModel|DoubleHeadsModel|MTModel|Model|For[A-Z]\w*)$")


def architecture_of(fields: Mapping[str, Any]) -> str:
    """Return the class that ``config.json`` names, the first of several; empty where none is."""
    names = fields.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def head_of(architecture: str) -> str:
    """Return the ending of a class's name, which names its head; empty for other names.

    >>> head_of("BertForMaskedLM"), head_of("GPT2LMHeadModel"), head_of("BertModel"), head_of("X")
    ('ForMaskedLM', 'LMHeadModel', 'Model', '')
    """
    match = _HEAD.search(architecture)
    return match[0] if match else ""


def check_head(
    folder: Path, fields: Mapping[str, Any], checkpoint_format: CheckpointFormat
) -> None:
    """Raise where ``config.json`` names a class whose head no model here has.

    Args:
        folder: For messages.
        fields: Of ``config.json``.
        checkpoint_format: By its ``model_type``.

    Raises:
        ConfigError: With the outputs of that head, and the heads that are read.
    """
    head = head_of(architecture_of(fields))
    read = next(
        (
            heads
            for families, heads in _ROLES
            if any(checkpoint_format in family.formats for family in families.values())
        ),
        _TEXTS_OUT,
    )
    if head and head not in read:
        outputs = f": gives {_OUTPUTS[head]}" if head in _OUTPUTS else ""
        raise ConfigError(
            f"{folder}/{HF_CONFIG}: architectures={architecture_of(fields)}{outputs}: a head that "
            f"no model here has.  Of {checkpoint_format.model_type} are read: {', '.join(read)}."
        )
