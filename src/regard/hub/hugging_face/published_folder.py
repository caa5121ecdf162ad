"""Hugging Face folders: ``config.json`` and safetensors, read and written by a family's format.

Nothing in a folder is ever run: pickles are refused, and the Python files that ``auto_map`` names
are ignored. A folder loads completely or not at all, and every tensor that does not fit is named.
Reading and writing need memory for the weights twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, WeightsError
from regard.hub.file_names import EXPORTER, HF_CONFIG
from regard.hub.hugging_face.architectures import (
    LABELS_OF_TEXTS,
    SPANS_OF_TEXTS,
    architecture_of,
    check_head,
    check_labels,
    check_next_sentence,
    head_of,
    read_label_threshold,
)
from regard.hub.hugging_face.name_mapping import (
    describe_mismatches,
    join_problems,
    match_tensors,
    rename_tensors,
    to_local,
    to_remote,
)
from regard.hub.hugging_face.other_folders import (
    describe_adapter,
    describe_graphs,
    describe_quantization,
    describe_quantized_tensors,
)
from regard.hub.hugging_face.recognize import require_no_run
from regard.hub.hugging_face.sentence_transformers import transformer_folder
from regard.hub.hugging_face.weight_files import (
    SHARD_BYTES,
    dump_json,
    is_whole_number,
    read_all_tensors,
    read_json,
    write_all_tensors,
)
from regard.hub.storage import warn_if_not_finite, write_atomic
from regard.models import CHECKPOINT_FORMATS, INPUT_CHECKPOINT_FORMATS, SpanModel, VitConfig
from regard.models.base.bounded_build import (
    TooLargeError,
    build_bounded,
    require_tensors_for_layers,
)
from regard.models.base.checkpoint_format import require_fields
from regard.models.base.classifier_checkpoints import (
    checkpoint_of,
    map_classifier_parameters,
    with_label_head,
)
from regard.models.base.span_checkpoints import (
    UNUSED_POOLER,
    map_span_parameters,
    span_checkpoint_of,
    with_span_head,
)
from regard.settings.validation import LARGEST

if TYPE_CHECKING:
    from regard.models.base.checkpoint_format import CheckpointFormat, LabelHead, ParameterMapping

_ROUNDED = 0.01  # of a number up to 1 that was stored in bfloat16 or half precision
CheckpointWriter = Callable[
    [Any, "CheckpointFormat", int], tuple[dict[str, Any], list["ParameterMapping"]]
]
"""Gives fields and mappings of a checkpoint, from configuration, format and size of vocabulary."""


@dataclass(frozen=True)
class Published:
    """The content of a Hugging Face folder, ready to be loaded into the family's model.

    Args:
        folder: Folder with ``config.json``; that of the Transformer in a folder of several modules.
        model_type: Model type of its checkpoint format.
        config: The family's configuration.
        vocab_size: Number of token ids.
        mappings: The tensors of each parameter.
        parts: The tensors of `mappings`, by their published names, as the files have them.
        labels: Labels of a classifier of texts or images, in the order of its logits; empty for
            other models.
        finds_spans: Whether it gives the positions of answers.
        label_threshold: Probability above which a text has a label, where it may have any number
            of them; None of other models.
    """

    folder: Path
    model_type: str
    config: Any
    vocab_size: int
    mappings: list[ParameterMapping]
    parts: dict[str, Tensor]
    labels: tuple[str, ...] = ()
    finds_spans: bool = False
    label_threshold: float | None = None

    def load_into(self, model: nn.Module) -> None:
        """Load the weights into a model of `config`, in the type of its parameters.

        Args:
            model: Has the parameters of `mappings`.

        Raises:
            WeightsError: Tensors have other shapes than the model, or do not hold real numbers.
        """
        parameters = dict(model.named_parameters())
        problems = [
            problem
            for mapping in self.mappings
            for problem in describe_mismatches(mapping, parameters[mapping.local].shape, self.parts)
        ]
        if problems:
            raise WeightsError(f"{self.folder}/: {join_problems(problems)}")
        with torch.no_grad():
            for mapping in self.mappings:
                parameters[mapping.local].copy_(to_local(mapping, self.parts))

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by the model's own names, float32."""
        return {mapping.local: to_local(mapping, self.parts).float() for mapping in self.mappings}


def read_hugging_face(folder: Path) -> Published:
    """Read configuration and weights of a Hugging Face folder.

    Args:
        folder: One for which `is_hugging_face` holds.

    Returns:
        Configuration and weights.

    Raises:
        ConfigError: The model has another format, or is a variant that is not computed.
        WeightsError: A file is missing, damaged or a pickle, or tensors are missing or surplus.
    """
    folder = transformer_folder(folder)
    fields = read_json(folder / HF_CONFIG)
    checkpoint_format = _format_of(folder, fields)
    if adapter := describe_adapter(folder):
        raise ConfigError(adapter)
    if quantization := describe_quantization(fields):
        raise ConfigError(f"{folder}/{HF_CONFIG}: {quantization}")
    check_head(folder, fields, checkpoint_format)
    config = _read_config(folder, fields, checkpoint_format)
    architecture = architecture_of(fields)
    tensors = rename_tensors(folder, read_all_tensors(folder), checkpoint_format)
    if quantization := describe_quantized_tensors(tensors):
        raise WeightsError(f"{folder}/: {quantization}")
    require_tensors_for_layers(config, len(tensors), f"{folder}/")
    warn_if_not_finite(tensors, f"{folder}/")
    if checkpoint_format.adapt is not None:
        config = checkpoint_format.adapt(config, tensors.keys())
    if checkpoint_format.untrained is not None:
        _check_untrained(folder, partial(checkpoint_format.untrained, config), tensors)
    check_next_sentence(folder, fields, tensors.keys())
    labels, threshold = _image_labels(folder, fields, config), None
    head = _label_head(folder, architecture, checkpoint_format, tensors)
    finds_spans = _has_span_head(folder, architecture, checkpoint_format, tensors)
    if finds_spans:
        config = with_span_head(config)
        mappings = map_span_parameters(config, checkpoint_format)
        ignored = (*checkpoint_format.ignored, *UNUSED_POOLER)
        checkpoint_format = checkpoint_format._replace(ignored=ignored)
    elif head is None:
        mappings = checkpoint_format.map_parameters(config)
    else:
        labels = _labels(folder, fields, len(tensors[f"{head.output}.weight"]))
        threshold = read_label_threshold(folder, fields)
        check_labels(folder, fields, labels, takes_several=True)
        config = with_label_head(config, head)
        mappings = map_classifier_parameters(config, checkpoint_format, head)
        ignored = (*checkpoint_format.ignored, *head.ignored)
        checkpoint_format = checkpoint_format._replace(ignored=ignored)
    return Published(
        folder=folder,
        model_type=checkpoint_format.model_type,
        config=config,
        vocab_size=_vocab_size(folder, fields),
        mappings=mappings,
        parts=match_tensors(folder, checkpoint_format, mappings, tensors),
        labels=labels,
        finds_spans=finds_spans,
        label_threshold=threshold,
    )


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
        folder: The folder, created as needed.
        model: The model, whose attention must be full: published configurations have no pattern.
        config: Its configuration; of a `Classifier` or a `SpanModel` that of its encoder.
        checkpoint_format: One of its family.
        vocab_size: Number of token ids.
        files: Other files by name, such as those of the vocabulary.
        special_ids: Ids of special tokens, by their roles; bos, eos and pad are written.
        labels: Labels of a `Classifier`, in the order of its logits.
        fields: Fields of ``config.json``, which replace those of the format.
        shard_bytes: Weights larger than this are written to several files with an index.

    Raises:
        ConfigError: The format cannot express a setting, or the folder is one of regard's own.
        ResourceError: The disk is full.
    """
    require_no_run(folder)
    # The format overrides ids of the vocabulary: RoBERTa counts its positions from pad_token_id.
    written, mappings = checkpoint_writer(model, labels)(config, checkpoint_format, vocab_size)
    roles = ("bos", "eos", "pad") if vocab_size else ()
    ids = {f"{role}_token_id": special_ids.get(role) for role in roles}
    content = dump_json({**ids, **written, **fields, **EXPORTER})
    parameters = dict(model.named_parameters())
    make_untrained = checkpoint_format.untrained
    tensors = {} if make_untrained is None else make_untrained(config)
    tensors |= to_remote(mappings, parameters)
    write_all_tensors(folder, tensors, shard_bytes)
    for name, file in files.items():
        write_atomic(folder / name, file)
    write_atomic(folder / HF_CONFIG, content)


def checkpoint_writer(model: nn.Module, labels: Sequence[str]) -> CheckpointWriter:
    """Return how a checkpoint format stores a model, by its kind.

    Args:
        model: The model.
        labels: Labels of a `Classifier`, in the order of its logits.
    """
    if isinstance(model, SpanModel):
        return span_checkpoint_of
    return partial(checkpoint_of, labels=labels)


def _check_untrained(
    folder: Path, compute: Callable[[], Mapping[str, Tensor]], tensors: Mapping[str, Tensor]
) -> None:
    """Check tensors of a file that the configuration decides, as far as the file has them.

    Raises:
        WeightsError: One has other numbers, or would be larger than the file.
    """
    try:
        expected = build_bounded(compute, sum(tensor.numel() for tensor in tensors.values()))
    except TooLargeError as error:
        raise WeightsError(
            f"{folder}/{HF_CONFIG}: its sizes are far larger than those of the weights."
        ) from error
    for name, tensor in expected.items():
        for actual in (tensors[key] for key in tensors if name.endswith(key)):
            is_near = actual.shape == tensor.shape and torch.allclose(
                actual.float(), tensor, rtol=0, atol=_ROUNDED
            )
            if not is_near:
                raise WeightsError(
                    f"{folder}/: tensor {name} has other numbers than config.json says.  Weights "
                    "with a trained table in its place are not computed."
                )


def _format_of(folder: Path, fields: Mapping[str, Any]) -> CheckpointFormat:
    if fields.items() >= EXPORTER.items() and (description := describe_graphs(folder)):
        raise WeightsError(description)
    formats = CHECKPOINT_FORMATS | INPUT_CHECKPOINT_FORMATS
    model_type = fields.get("model_type")
    if isinstance(model_type, str) and model_type in formats:
        return formats[model_type]
    own_code = "  Its own code (auto_map) is never run." if "auto_map" in fields else ""
    raise ConfigError(
        f"{folder}/{HF_CONFIG}: model_type={json.dumps(model_type)} cannot be read.  "
        f"Supported: {', '.join(sorted(formats))}.{own_code}"
    )


def _read_config(
    folder: Path, fields: Mapping[str, Any], checkpoint_format: CheckpointFormat
) -> Any:
    try:
        require_fields(fields, {"per_layer_config": {}})
        return checkpoint_format.read(fields)
    except ConfigError as error:
        raise ConfigError(f"{folder}/{error}") from error
    except ValueError as error:
        raise ConfigError(f"{folder}/{HF_CONFIG}: {error}.") from error


def _vocab_size(folder: Path, fields: Mapping[str, Any]) -> int:
    size = fields.get("vocab_size")
    if size is None and "image_size" in fields:
        return 0  # the model reads no text
    if not is_whole_number(size, least=1) or size > LARGEST:
        raise ConfigError(
            f"{folder}/{HF_CONFIG}: vocab_size={json.dumps(size)[:80]}: "
            "a whole number of 1 or more was expected."
        )
    return size


def _label_head(
    folder: Path,
    architecture: str,
    checkpoint_format: CheckpointFormat,
    tensors: Mapping[str, Tensor],
) -> LabelHead | None:
    """Return the head of a classifier of texts, by the class named, or else by the tensors."""
    head, name = checkpoint_format.label_head, head_of(architecture)
    if head is None or name not in ("", LABELS_OF_TEXTS):
        return None
    dense, output = f"{head.dense}.weight", f"{head.output}.weight"
    _require_head(folder, architecture, output, tensors)
    return head if name or {dense, output} <= tensors.keys() else None


def _require_head(
    folder: Path, architecture: str, output: str, tensors: Mapping[str, Tensor]
) -> None:
    """Raise where the output layer is missing that the head of a named class has."""
    if head_of(architecture) and output not in tensors:
        raise WeightsError(f"{folder}/: tensor {output} is missing, the head of {architecture}.")


def _has_span_head(
    folder: Path,
    architecture: str,
    checkpoint_format: CheckpointFormat,
    tensors: Mapping[str, Tensor],
) -> bool:
    """Return whether an encoder gives positions of answers, by the named class, or the tensors."""
    label_head, name = checkpoint_format.label_head, head_of(architecture)
    output = f"{checkpoint_format.span_output}.weight"
    if label_head is None or name not in ("", SPANS_OF_TEXTS):
        return False
    if not name and checkpoint_format.span_output == label_head.output:
        return False  # by their names its tensors are those of labels
    _require_head(folder, architecture, output, tensors)
    return output in tensors


def _image_labels(folder: Path, fields: Mapping[str, Any], config: object) -> tuple[str, ...]:
    """Read the labels of a classifier of images.

    Returns:
        The labels in the order of its logits; none of another model.

    Raises:
        ConfigError: A label has no name, or the model gives anything but one label among several.
    """
    if not isinstance(config, VitConfig) or not config.num_labels:
        return ()
    labels = _labels(folder, fields, config.num_labels)
    check_labels(folder, fields, labels)
    return labels


def _labels(folder: Path, fields: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Read the names of the labels.

    `transformers` omits those of its own default, ``LABEL_0``; old releases wrote two of them
    whatever ``num_labels`` was.

    Returns:
        `count` names.

    Raises:
        ConfigError: A label has no name, or two have the same.
    """
    named, numbers = fields.get("id2label"), list(map(str, range(count)))
    if named in (None, {"0": "LABEL_0", "1": "LABEL_1"}):
        return tuple(map("LABEL_{}".format, numbers))
    if not isinstance(named, dict) or named.keys() != set(numbers):
        raise ConfigError(
            f"{folder}/{HF_CONFIG}: id2label={json.dumps(named)[:80]}: "
            f"a name for each of 0 to {count - 1} was expected."
        )
    labels = tuple(str(named[number]) for number in numbers)
    if len(set(labels)) < count:
        raise ConfigError(f"{folder}/{HF_CONFIG}: id2label gives two labels the same name.")
    return labels
