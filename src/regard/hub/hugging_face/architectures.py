"""The head of a checkpoint, by the class of ``transformers`` that ``config.json`` names.

Weights of different heads can have the same names: those of a next-sentence model are an encoder
with a small linear map that no model here has. So the class decides, and the tensors only where no
class is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from regard.errors import ConfigError
from regard.hub.file_names import HF_CONFIG
from regard.models import DECODERS, ENCODERS, INPUT_ENCODERS, CheckpointFormat
from regard.models.base.checkpoint_format import LABEL_THRESHOLD, MULTI_LABEL, USUAL_THRESHOLD

LABELS_OF_TEXTS = "ForSequenceClassification"
SPANS_OF_TEXTS = "ForQuestionAnswering"
LABELS_OF_IMAGES = "ForImageClassification"
_ROLES = (
    (ENCODERS, ("Model", "ForMaskedLM", "ForPreTraining", LABELS_OF_TEXTS, SPANS_OF_TEXTS)),
    (DECODERS, ("Model", "LMHeadModel", "ForCausalLM")),
    (INPUT_ENCODERS, ("Model", LABELS_OF_IMAGES)),
)
"""Endings of the names of classes whose head is read, by the role of the family."""
# Of encoder-decoders; the first releases of T5 are of T5WithLMHeadModel.
_TEXTS_OUT = ("Model", "MTModel", "WithLMHeadModel", "ForConditionalGeneration")
_OUTPUTS = {
    "ForTokenClassification": "labels of tokens",
    SPANS_OF_TEXTS: "the positions of answers",
    "ForNextSentencePrediction": "whether two texts follow each other",
    "ForMultipleChoice": "a choice among several texts",
    LABELS_OF_TEXTS: "labels of texts",
    "ForMaskedImageModeling": "hidden patches",
    "ForCausalLM": "continuations of texts",
    "LMHeadModel": "continuations of texts",
    "DoubleHeadsModel": "continuations and a choice among them",
}
_NEXT_SENTENCE, _MASKED = "cls.seq_relationship.weight", "cls.predictions."
_TASKS_OF_PAIRS = {"mnli", "mrpc", "qnli", "qqp", "rte", "snli", "stsb", "sts-b", "wnli"}
"""Values of ``finetuning_task`` (GLUE, Wang et al. 2018) whose inputs are two texts each."""
_LABELS_OF_PAIRS = {
    "contradiction",
    "duplicate",
    "entailment",
    "equivalent",
    "not_duplicate",
    "not_entailment",
    "not_equivalent",
}
_HEAD = re.compile(r"(WithLMHeadModel|LMHeadModel|DoubleHeadsModel|MTModel|Model|For[A-Z]\w*)$")


def architecture_of(fields: Mapping[str, Any]) -> str:
    """Return the class that ``config.json`` names, the first of several; empty where none is."""
    names = fields.get("architectures")
    if isinstance(names, str):
        return names
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
        folder: Folder, for messages.
        fields: Fields of ``config.json``.
        checkpoint_format: The format that belongs to its ``model_type``.

    Raises:
        ConfigError: No model here has the head; the message names the heads that are read.
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
            f"no model here has.  Heads of {checkpoint_format.model_type} that are read: "
            f"{', '.join(read)}."
        )


def check_next_sentence(folder: Path, fields: Mapping[str, Any], names: Set[str]) -> None:
    """Raise where no class is named and the only head of a file is that of next sentences.

    Args:
        folder: Folder, for messages.
        fields: Fields of ``config.json``.
        names: Names of the tensors.

    Raises:
        ConfigError: The file has that head alone.
    """
    has_masked = any(name.startswith(_MASKED) for name in names)
    if _NEXT_SENTENCE in names and not has_masked and not head_of(architecture_of(fields)):
        raise ConfigError(
            f"{folder}: the tensor {_NEXT_SENTENCE} gives "
            f"{_OUTPUTS['ForNextSentencePrediction']}: a head that no model here has."
        )


def read_label_threshold(folder: Path, fields: Mapping[str, Any]) -> float | None:
    """Return the probability above which a text has a label, where it may have any number of them.

    Args:
        folder: Folder, for messages.
        fields: Fields of ``config.json``; without a threshold of our own it is 0.5.

    Returns:
        The threshold; None where a text has one label.

    Raises:
        ConfigError: The threshold is not a number from 0 to 1.
    """
    if fields.get("problem_type") != MULTI_LABEL:
        return None
    value = fields.get(LABEL_THRESHOLD, USUAL_THRESHOLD)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(
            f"{folder}/{HF_CONFIG}: {LABEL_THRESHOLD}={value}: a number from 0 to 1 was expected."
        )
    return float(value)


def check_labels(
    folder: Path, fields: Mapping[str, Any], labels: Sequence[str], *, takes_several: bool = False
) -> None:
    """Raise where a classifier gives anything but labels of one input.

    Args:
        folder: Folder, for messages.
        fields: Fields of ``config.json``.
        labels: Names of the labels.
        takes_several: Whether an input may have several labels at once.

    Raises:
        ConfigError: It gives scores, several labels of an image at once, or labels of pairs of
            texts.
    """
    problem, task = fields.get("problem_type"), str(fields.get("finetuning_task")).lower()
    pair = next((label for label in labels if label.lower() in _LABELS_OF_PAIRS), "")
    kinds = {
        "one label, a model of scores (regression)": len(labels) < 2 or problem == "regression",
        "problem_type=multi_label_classification, several labels at once": (
            problem == MULTI_LABEL and not takes_several
        ),
        f"finetuning_task={task}, labels of pairs of texts": task in _TASKS_OF_PAIRS,
        f"the label {pair}, which is of pairs of texts": bool(pair),
    }
    if kind := next((kind for kind, is_met in kinds.items() if is_met), None):
        name = architecture_of(fields) or "a classifier"
        raise ConfigError(
            f"{folder}/{HF_CONFIG}: {name}: {kind}.  A classifier that is read gives one label "
            "among several to one text or image, or any number of labels to one text."
        )
