"""Pretrained weights copied into a new model, and which of them are trained further.

All weights, the last layers, or low-rank adapters (Hu et al. 2021).
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from regard.errors import WeightsError
from regard.hub.hugging_face.checkpoint import is_hugging_face, read_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.layers.lora import ADAPTED, add_low_rank, merge_low_rank
from regard.models import Classifier, Model, Vit
from regard.setup.config import RunConfig


def load_pretrained(model: Model, config: RunConfig) -> None:
    """Copy the weights of ``start_from`` into a model.

    The output layer of a classifier is copied where the labels are the same, in any order; else it
    starts at zero, and the pooler at random where the weights have none.

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
    if not isinstance(model, Classifier):
        has_new_head = isinstance(model, Vit) and old_labels != labels
        fill_from_pretrained(model, tensors, folder, skip=("head.",) if has_new_head else ())
        return
    names = {name for name, _ in model.named_parameters() if ADAPTED not in name}
    if sorted(old_labels) == sorted(labels) and tensors.keys() == names:
        order = [old_labels.index(label) for label in labels]
        output = {name: tensors[name][order] for name in ("output_weight", "output_bias")}
        fill_from_pretrained(model, tensors | output, folder)
        return
    tensors = encoder_weights(tensors)
    has_pooler = any(name.startswith("pooler.") for name in tensors)
    fill_from_pretrained(model.encoder, tensors, folder, skip=() if has_pooler else ("pooler.",))


def encoder_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the encoder of a classifier; those of another model unchanged."""
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
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(ADAPTED in name)
    else:
        layers = model.layers()
        for layer in layers[-tuning.layers :]:
            layer.requires_grad_(True)
        for layer in layers[: -tuning.layers]:  # what all layers share, such as biases, stays
            layer.requires_grad_(False)
    if isinstance(model, Vit) and model.head is not None:
        model.head.requires_grad_(True)
    if isinstance(model, Classifier):
        model.output_weight.requires_grad_(True)
        model.output_bias.requires_grad_(True)
        if model.encoder.pooler is not None:
            model.encoder.pooler.requires_grad_(True)


def merged_weights(tensors: dict[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
    """Return the weights for a model folder, with low-rank adapters merged."""
    tuning = config.fine_tuning
    if tuning.method != "lora":
        return tensors
    return merge_low_rank(tensors, alpha=tuning.alpha)
