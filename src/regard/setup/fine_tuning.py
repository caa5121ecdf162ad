"""Trained weights put into a new model, and what of it is trained further.

All weights, the last layers, or low-rank changes (Hu et al. 2021).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from regard.errors import WeightsError
from regard.hub.hugging_face.checkpoint import is_hugging_face, read_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.layers.lora import ADAPTED, add_low_rank, merge_low_rank
from regard.models import Classifier, Model, Vit
from regard.setup.config import RunConfig

_POOLER = "pooler."
_TO_LABELS = ("output_weight", "output_bias")  # of a classifier


def load_pretrained(model: Model, config: RunConfig) -> None:
    """Put the weights that a run starts from into its model.

    A classifier takes the map to the labels along where they are the same, in whatever order; else
    that map begins at zero, and the pooler at random where the weights have none.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    assert config.start_from is not None
    folder = Path(config.start_from)
    if is_hugging_face(folder):
        published = read_hugging_face(folder)
        tensors, labels = published.tensors(), published.labels
    else:
        own = ModelFolder(folder)
        tensors, labels = own.read_weights(), own.read_config(RunConfig).data.labels
    if isinstance(model, Classifier):
        _fill_classifier(model, tensors, folder, labels, config.data.labels)
    elif isinstance(model, Vit) and labels != config.data.labels:
        fill_from_pretrained(model, tensors, folder, but=("head.",))
    else:
        fill_from_pretrained(model, tensors, folder)


def _fill_classifier(
    model: Classifier,
    tensors: dict[str, Tensor],
    folder: Path,
    labels: tuple[str, ...],
    wanted: tuple[str, ...],
) -> None:
    """Fill a classifier from one of other or the same labels, or from an encoder alone."""
    names = {name for name, _ in model.named_parameters() if ADAPTED not in name}
    if sorted(labels) == sorted(wanted) and tensors.keys() == names:
        order = [labels.index(label) for label in wanted]
        tensors = tensors | {name: tensors[name][order] for name in _TO_LABELS}
        fill_from_pretrained(model, tensors, folder)
        return
    if "output_bias" in tensors:
        own = "encoder."
        tensors = {n.removeprefix(own): t for n, t in tensors.items() if n.startswith(own)}
    has_pooler = any(name.startswith(_POOLER) for name in tensors)
    fill_from_pretrained(model.encoder, tensors, folder, but=() if has_pooler else (_POOLER,))


def fill_from_pretrained(
    model: nn.Module, tensors: dict[str, Tensor], folder: Path, *, but: tuple[str, ...] = ()
) -> None:
    """Put weights into a model, or a part of one.

    Args:
        model: Whose parameters are filled; low-rank changes stay as they are.
        tensors: By the names of its parameters; surplus ones are passed over.
        folder: Where they come from, for messages.
        but: Beginnings of names of parameters that stay as they are.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    for name, parameter in model.named_parameters():
        if ADAPTED in name or name.startswith(but):
            continue
        found = tensors.get(name)
        if found is None or found.shape != parameter.shape:
            seen = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise WeightsError(
                f"{folder}: tensor {name} {seen}, the model of this run wants "
                f"{list(parameter.shape)}.  Sizes come with the weights: leave model.* out."
            )
        parameter.data.copy_(found)


def freeze(model: Model, config: RunConfig) -> None:
    """Freeze what of a model is not trained, by ``fine_tuning.method``."""
    method, tuning = config.fine_tuning.method, config.fine_tuning
    if method == "all":
        return
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if method == "lora":
        add_low_rank(model, rank=tuning.rank, alpha=tuning.alpha)
        chosen: Iterable[nn.Parameter] = (
            p for name, p in model.named_parameters() if ADAPTED in name
        )
    else:
        chosen = [p for layer in model.layers()[-tuning.layers :] for p in layer.parameters()]
    for parameter in chosen:
        parameter.requires_grad_(True)
    if isinstance(model, Vit) and model.head is not None:
        model.head.requires_grad_(True)
    if isinstance(model, Classifier):
        model.output_weight.requires_grad_(True)
        model.output_bias.requires_grad_(True)
        if model.encoder.pooler is not None:
            model.encoder.pooler.requires_grad_(True)


def merged_weights(tensors: dict[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
    """Return the weights that a model folder keeps: low-rank changes are merged."""
    tuning = config.fine_tuning
    if tuning.method != "lora":
        return tensors
    return merge_low_rank(tensors, alpha=tuning.alpha)
