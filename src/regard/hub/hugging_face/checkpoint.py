"""Hugging Face folders: ``config.json`` and safetensors, read and written by a family's format.

Nothing in a folder is ever run: pickles are refused, and the Python files that ``auto_map`` names
are left alone. A folder loads completely or not at all, and every tensor that stands in the way is
named. Reading holds the weights twice in memory until they are in the model, writing too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, WeightsError
from regard.hub.file_names import CONFIG, HF_CONFIG
from regard.hub.hugging_face.name_mapping import joined, match, misfits, renamed, sentences, split
from regard.hub.hugging_face.weight_files import (
    SHARD_BYTES,
    dump_json,
    read_all_tensors,
    read_json,
    write_all_tensors,
)
from regard.hub.storage import write_atomic
from regard.models import CHECKPOINT_FORMATS, INPUT_CHECKPOINT_FORMATS
from regard.models.base.checkpoint_format import CheckpointFormat, LabelHead, ParameterMapping
from regard.models.base.classifier_checkpoints import (
    checkpoint_of,
    map_classifier_parameters,
    with_label_head,
)


@dataclass(frozen=True)
class Published:
    """What a Hugging Face folder holds, ready to be put into the family's model.

    Args:
        folder: Where it was read.
        model_type: Of its checkpoint format.
        config: The family's configuration.
        vocab_size: Number of token ids.
        mappings: The tensors of each parameter.
        parts: The tensors of `mappings`, by their published names, as the files have them.
        labels: Of a classifier of texts, in the order of its logits; empty where it is none.
    """

    folder: Path
    model_type: str
    config: Any
    vocab_size: int
    mappings: list[ParameterMapping]
    parts: dict[str, Tensor]
    labels: tuple[str, ...] = ()

    def load_into(self, model: nn.Module) -> None:
        """Put the weights into a model of `config`, in the type of its parameters.

        Raises:
            WeightsError: Tensors have other shapes than the model's, or hold no real numbers.
        """
        parameters = dict(model.named_parameters())
        problems = [
            problem
            for mapping in self.mappings
            for problem in misfits(mapping, parameters[mapping.local].shape, self.parts)
        ]
        if problems:
            raise WeightsError(f"{self.folder}/: {sentences(problems)}")
        with torch.no_grad():
            for mapping in self.mappings:
                parameters[mapping.local].copy_(joined(mapping, self.parts))

    def tensors(self) -> dict[str, Tensor]:
        """Make the weights by the model's own names, float32."""
        return {mapping.local: joined(mapping, self.parts).float() for mapping in self.mappings}


def is_hugging_face(folder: Path) -> bool:
    """Whether a folder is one of Hugging Face's: a ``config.json`` with a ``model_type``."""
    path = folder / HF_CONFIG
    if (folder / CONFIG).exists() or not path.is_file():
        return False
    return "model_type" in read_json(path)


def read_hugging_face(
    folder: Path,
    formats: Mapping[str, CheckpointFormat] = CHECKPOINT_FORMATS | INPUT_CHECKPOINT_FORMATS,
) -> Published:
    """Read configuration and weights.

    Args:
        folder: One for which `is_hugging_face` holds.
        formats: By ``model_type``; those of all families where none are named.

    Raises:
        ConfigError: The model is of none of these formats.
        WeightsError: A file is missing, damaged or a pickle, or tensors are missing or surplus.
    """
    fields = read_json(folder / HF_CONFIG)
    checkpoint_format = _format_of(folder, fields, formats)
    config = _family_config(folder, fields, checkpoint_format)
    tensors = renamed(read_all_tensors(folder, _architecture(fields)), checkpoint_format)
    if checkpoint_format.adapt is not None:
        config = checkpoint_format.adapt(config, tensors.keys())
    head, labels = _label_head(checkpoint_format, tensors), ()
    if head is None:
        mappings = checkpoint_format.map_parameters(config)
    else:
        labels = _labels(folder, fields, len(tensors[f"{head.output}.weight"]))
        config = with_label_head(config, head)
        mappings = map_classifier_parameters(config, checkpoint_format, head)
        ignored = (*checkpoint_format.ignored, *head.ignored)
        checkpoint_format = checkpoint_format._replace(ignored=ignored)
    parts = match(folder, checkpoint_format, mappings, tensors)
    vocab_size = _vocab_size(folder, fields)
    model_type = checkpoint_format.model_type
    return Published(folder, model_type, config, vocab_size, mappings, parts, labels)


def write_hugging_face(
    folder: Path,
    model: nn.Module,
    config: Any,
    checkpoint_format: CheckpointFormat,
    vocab_size: int,
    *,
    files: Mapping[str, str | bytes] = MappingProxyType({}),
    special_ids: Mapping[str, int] = MappingProxyType({}),
    labels: Sequence[str] = (),
    fields: Mapping[str, Any] = MappingProxyType({}),
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a folder that ``transformers`` opens, with float32 weights.

    Args:
        folder: Its place, made as needed.
        model: The model, whose attention must be full: published configurations tell no pattern.
        config: Its configuration; of a `Classifier` that of its encoder.
        checkpoint_format: One of its family.
        vocab_size: Number of token ids.
        files: Further files by name, such as those of the vocabulary.
        special_ids: Of special tokens, by their roles; bos, eos and pad are written.
        labels: Of a `Classifier`, in the order of its logits.
        fields: Of ``config.json``, which go before those of the format.
        shard_bytes: Weights larger than this are written to several files with an index.

    Raises:
        ConfigError: The format cannot express a setting, or the folder is one of regard's own.
        ResourceError: The disk is full.
    """
    if (folder / CONFIG).exists():
        raise ConfigError(f"{folder}: holds a model of regard.  Export to another folder.")
    # What the format says of an id goes before: RoBERTa counts its positions from pad_token_id.
    written, mappings = checkpoint_of(config, checkpoint_format, vocab_size, labels)
    roles = ("bos", "eos", "pad") if vocab_size else ()
    ids = {f"{role}_token_id": special_ids.get(role) for role in roles}
    content = dump_json({**ids, **written, **fields})
    parameters = dict(model.named_parameters())
    tensors: dict[str, Tensor] = {}
    for mapping in mappings:
        tensors |= split(mapping, parameters[mapping.local].detach())
    write_all_tensors(folder, tensors, shard_bytes)
    for name, file in files.items():
        write_atomic(folder / name, file)
    write_atomic(folder / HF_CONFIG, content)


def _format_of(
    folder: Path, fields: Mapping[str, Any], formats: Mapping[str, CheckpointFormat]
) -> CheckpointFormat:
    model_type = fields.get("model_type")
    if isinstance(model_type, str) and model_type in formats:
        return formats[model_type]
    own_code = "  Its own code (auto_map) is never run." if "auto_map" in fields else ""
    raise ConfigError(
        f"{folder}/config.json: model_type={json.dumps(model_type)} is none that can be read.  "
        f"Supported: {', '.join(sorted(formats))}.{own_code}"
    )


def _family_config(
    folder: Path, fields: Mapping[str, Any], checkpoint_format: CheckpointFormat
) -> Any:
    """Read the configuration; messages get the folder before the file that they begin with."""
    try:
        return checkpoint_format.read(fields)
    except ConfigError as error:
        raise ConfigError(f"{folder}/{error}") from error
    except ValueError as error:
        raise ConfigError(f"{folder}/config.json: {error}.") from error


def _vocab_size(folder: Path, fields: Mapping[str, Any]) -> int:
    given = fields.get("vocab_size")
    if given is None and "image_size" in fields:
        return 0  # no text goes in
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigError(
            f"{folder}/config.json: vocab_size={json.dumps(given)}: "
            "a whole number of 1 or more was expected."
        )
    return given


def _label_head(
    checkpoint_format: CheckpointFormat, tensors: Mapping[str, Tensor]
) -> LabelHead | None:
    """Find the head of a classifier of texts; one of tokens lacks the map before the labels."""
    head = checkpoint_format.label_head
    if head is None or not {f"{head.dense}.weight", f"{head.output}.weight"} <= tensors.keys():
        return None
    return head


def _labels(folder: Path, fields: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Read the names of the labels; `transformers` leaves out those it would make up itself."""
    problem = fields.get("problem_type")
    if count < 2 or problem not in (None, "single_label_classification"):
        kind = problem or "one label"
        raise ConfigError(
            f"{folder}/config.json: {kind}: a model of scores, not of one label among several, "
            "which is the only kind of classifier here."
        )
    named = fields.get("id2label")
    if named is None:
        return tuple(f"LABEL_{number}" for number in range(count))
    wanted = [str(number) for number in range(count)]
    if not isinstance(named, dict) or sorted(named) != sorted(wanted):
        raise ConfigError(
            f"{folder}/config.json: id2label={json.dumps(named)[:80]}: "
            f"a name for each of 0 to {count - 1} was expected."
        )
    labels = tuple(str(named[number]) for number in wanted)
    if len(set(labels)) < count:
        raise ConfigError(f"{folder}/config.json: id2label gives two labels the same name.")
    return labels


def _architecture(fields: Mapping[str, Any]) -> str:
    given = fields.get("architectures")
    return str(given[0]) if isinstance(given, list) and given else ""
