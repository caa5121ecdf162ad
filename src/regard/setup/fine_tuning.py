"""Pretrained weights copied into a new model, and which of them are trained further.

All weights, the last layers, or low-rank adapters (Hu et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path

from torch import Tensor, nn

from regard.data.listing import list_first
from regard.errors import WeightsError
from regard.hub.hugging_face.published_folder import read_hugging_face
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.layers.linear import Linear
from regard.layers.lora import ADAPTED, add_low_rank, merge_low_rank
from regard.models import Classifier, Encoder, EncoderDecoder, Model, SpanModel, Vit
from regard.setup.config import RunConfig

_HEAD_OF_TEXTS = ("output_weight", "output_bias")  # parameters with a row for each label
_HEAD_OF_INPUTS = ("head.weight", "head.bias")
_COPY_HEAD = "copy_head."  # beginning of names
_NUM_NAMED = 10  # labels in a message

_OUTPUTS = (
    (Vit, "head"),
    (EncoderDecoder, "copy_head"),
    (SpanModel, "output_weight"),
    (SpanModel, "roles"),
    (Classifier, "output_weight"),
    (Classifier, "output_bias"),
    (Classifier, "encoder.pooler"),
)
"""Parts that belong to the data of a run, by the class of the model: always trained."""


def load_pretrained(model: Model, config: RunConfig) -> str:
    """Copy the weights of ``start_from`` into a model.

    In the output layer of a classifier the rows of labels that the weights know are copied; those
    of new labels start at zero. The pooler and the copy mechanism start at random where the weights
    have none.

    Returns:
        Which rows of the output layer are kept, or which other part is new or left out, in a
        sentence; empty where all weights are kept, or where they have no output layer.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    assert config.start_from is not None
    folder, labels = Path(config.start_from), config.data.labels
    if is_hugging_face(folder):
        checkpoint = read_hugging_face(folder)
        tensors, old_labels = checkpoint.tensors(), checkpoint.labels
    else:
        own = ModelFolder(folder)
        tensors, old_labels = own.read_weights(), own.read_config(RunConfig).data.labels
    if isinstance(model, Classifier):
        return _fill_classifier(model, tensors, folder, labels, old_labels)
    if isinstance(model, SpanModel):
        _fill_span_model(model, tensors, folder)
        return ""
    if isinstance(model, Vit) and old_labels != labels:
        if not tensors.keys() >= set(_HEAD_OF_INPUTS):
            fill_from_pretrained(model, tensors, folder, skip=("head.",))
            return ""
        tensors = tensors | _known_rows(model, _HEAD_OF_INPUTS, tensors, labels, old_labels)
        fill_from_pretrained(model, tensors, folder)
        return _describe_known(labels, old_labels, folder)
    return _fill_whole(model, tensors, folder)


def _fill_classifier(
    model: Classifier,
    tensors: dict[str, Tensor],
    folder: Path,
    labels: Sequence[str],
    old_labels: Sequence[str],
) -> str:
    """Copy the weights of a classifier or of an encoder; return what is new, in a sentence."""
    if tensors.keys() == _pretrained_names(model):
        head = _known_rows(model, _HEAD_OF_TEXTS, tensors, labels, old_labels)
        fill_from_pretrained(model, tensors | head, folder)
        return _describe_known(labels, old_labels, folder)
    _fill_encoder(model.encoder, encoder_weights(tensors), folder)
    return f"The output layer is new: that of {folder} has another form." if old_labels else ""


def _fill_span_model(model: SpanModel, tensors: dict[str, Tensor], folder: Path) -> None:
    """Copy the weights of a model of answers or of an encoder."""
    if tensors.keys() == _pretrained_names(model):
        fill_from_pretrained(model, tensors, folder)
        return
    _fill_encoder(model.encoder, encoder_weights(tensors), folder)
    if model.roles is not None:
        model.roles.weight.data.zero_()  # the encoder begins as it was trained


def _fill_encoder(encoder: Encoder, tensors: dict[str, Tensor], folder: Path) -> None:
    """Copy the weights of an encoder, of which the pooler may be new."""
    if encoder.config.pools_every_vector:  # it computes what the head of masked tokens does
        of_head = {
            name.replace("head.", "pooler.", 1): tensor
            for name, tensor in tensors.items()
            if name.startswith("head.")
        }
        tensors = of_head | tensors
    has_pooler = any(name.startswith("pooler.") for name in tensors)
    fill_from_pretrained(encoder, tensors, folder, skip=() if has_pooler else ("pooler.",))


def _pretrained_names(model: Model) -> set[str]:
    """Return the names of the parameters without those of low-rank adapters."""
    return {name for name, _ in model.named_parameters() if ADAPTED not in name}


def _fill_whole(model: Model, tensors: dict[str, Tensor], folder: Path) -> str:
    """Copy the weights of a whole model; return what is new or left out, in a sentence."""
    has_copies = any(name.startswith(_COPY_HEAD) for name in tensors)
    copies = isinstance(model, EncoderDecoder) and model.copy_head is not None
    fill_from_pretrained(model, tensors, folder, skip=() if has_copies else (_COPY_HEAD,))
    if copies == has_copies:
        return ""
    if copies:
        return f"The copy mechanism is new: {folder} has none."
    return f"The copy mechanism of {folder} is left out."


def _known_rows(
    model: Model,
    names: Sequence[str],
    tensors: Mapping[str, Tensor],
    labels: Sequence[str],
    old_labels: Sequence[str],
) -> dict[str, Tensor]:
    """Return the parameters of an output layer, with the rows of labels that the weights know."""
    head = {}
    for name in names:
        rows = model.get_parameter(name).detach().clone()
        for row, label in enumerate(labels):
            if label in old_labels:
                rows[row] = tensors[name][old_labels.index(label)]
        head[name] = rows
    return head


def _describe_known(labels: Sequence[str], old_labels: Sequence[str], folder: Path) -> str:
    """Return which labels of an output layer are known; empty where they are the same."""
    if set(labels) == set(old_labels):
        return ""
    kept_labels = [label for label in labels if label in old_labels]
    new = [label for label in labels if label not in old_labels]
    gone = [label for label in old_labels if label not in labels]
    if not kept_labels:
        return (
            f"The output layer is new: the labels of {folder} "
            f"({list_first(old_labels, _NUM_NAMED)}) are not in the data."
        )
    text = f"The output layer keeps what it knows of {list_first(kept_labels, _NUM_NAMED)}."
    if new:
        text += f"  New: {list_first(new, _NUM_NAMED)}."
    if gone:
        text += f"  Left out, since the data lacks them: {list_first(gone, _NUM_NAMED)}."
    return text


def encoder_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the encoder of a classifier, or of a model of answers.

    Those of another model are returned unchanged.
    """
    if "output_bias" not in tensors:
        return tensors
    prefix = "encoder."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def fill_from_pretrained(
    model: nn.Module, tensors: dict[str, Tensor], folder: Path, *, skip: tuple[str, ...] = ()
) -> None:
    """Copy weights into a model, or a part of one.

    Args:
        model: The module; its low-rank adapters are not changed.
        tensors: Weights by parameter name, each of the shape of its parameter; others are ignored.
        folder: Source of the weights, for messages.
        skip: Prefixes of parameter names that are not filled.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    for name, parameter in model.named_parameters():
        if ADAPTED in name or name.startswith(skip):
            continue
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != parameter.shape:
            problem = "is missing" if tensor is None else f"has shape {list(tensor.shape)}"
            raise WeightsError(
                f"{folder}: tensor {name} {problem}, the model of this run wants "
                f"{list(parameter.shape)}.  Sizes come with the weights: leave model.* out."
            )
        parameter.data.copy_(tensor)


def freeze(model: Model, config: RunConfig) -> None:
    """Freeze the weights that are not trained, and add low-rank adapters, by ``fine_tuning``."""
    tuning = config.fine_tuning
    if tuning.method == "all":
        return
    model.requires_grad_(False)
    if tuning.method == "lora":
        add_low_rank(model, rank=tuning.rank, alpha=tuning.alpha)
        trained = {weight for name, weight in model.named_parameters() if ADAPTED in name}
    else:
        trained = _of_last_layers(model, tuning.layers)
    for parameter in trained | _of_outputs(model):
        parameter.requires_grad_(True)


def trained_names(model: Model, config: RunConfig) -> set[str]:
    """Return the names of the weights that training changed, in a model with merged adapters.

    Args:
        model: Trained; of maps that had adapters the whole matrices count.
        config: The settings of its run.
    """
    tuning = config.fine_tuning
    if tuning.method == "all":
        return {name for name, weight in model.named_parameters() if weight.requires_grad}
    if tuning.method == "lora":
        trained = {module.weight for module in model.modules() if isinstance(module, Linear)}
    else:
        trained = _of_last_layers(model, tuning.layers)
    trained |= _of_outputs(model)
    return {name for name, weight in model.named_parameters() if weight in trained}


def _of_last_layers(model: Model, count: int) -> set[nn.Parameter]:
    """Return the parameters of the last layers; what they share with others is frozen."""
    layers = model.layers()
    num_frozen = max(0, len(layers) - count)
    frozen = {weight for layer in layers[:num_frozen] for weight in layer.parameters()}
    return {weight for layer in layers[num_frozen:] for weight in layer.parameters()} - frozen


def _of_outputs(model: Model) -> set[nn.Parameter]:
    """Return the parameters of the output layers, which are trained with any method."""
    parts = [attrgetter(name)(model) for kind, name in _OUTPUTS if isinstance(model, kind)]
    weights = {part for part in parts if isinstance(part, nn.Parameter)}
    layers = [part for part in parts if isinstance(part, nn.Module)]
    return weights.union(*(layer.parameters() for layer in layers))


def merged_weights(tensors: dict[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
    """Return the weights for a model folder, with low-rank adapters merged."""
    tuning = config.fine_tuning
    if tuning.method != "lora":
        return tensors
    return merge_low_rank(tensors, alpha=tuning.alpha)
