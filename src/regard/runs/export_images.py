"""Classifiers of images in Hugging Face's layout, written for others to open.

The folder has labels (``id2label``) and how pixels are prepared (``preprocessor_config.json``): the
size, and mean and deviation of each channel, in shares of the brightest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.hub.hugging_face.checkpoint import write_hugging_face
from regard.hub.hugging_face.weight_files import dump_json
from regard.layers.attention_config import AttentionConfig
from regard.models import INPUT_CHECKPOINT_FORMATS, Vit, VitConfig
from regard.runs.export_check import Exported
from regard.setup.config import DataConfig, RunConfig
from regard.setup.published_images import BRIGHTEST
from regard.tasks.loading import open_published

_MODEL_TYPE = "vit"
_BILINEAR = 2  # as Pillow counts its filters
_CHECKED_IMAGES = 4


def export_images(model: Vit, config: RunConfig, output: str | Path) -> Exported:
    """Write a classifier of images, read it again and compare.

    Args:
        model: In evaluation mode.
        config: The settings it was made with.
        output: Folder to write.

    Raises:
        ConfigError: The model reads no images, or the layout has no place for it.
    """
    sizes, labels = model.config, config.data.labels
    _require_place(config, sizes)
    place = Path(output)
    write_hugging_face(
        place,
        model,
        sizes,
        INPUT_CHECKPOINT_FORMATS[_MODEL_TYPE],
        0,
        files={"preprocessor_config.json": dump_json(_preparation(sizes, config.data))},
        fields={
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
        },
    )
    pixels = _checked_pixels(sizes)
    with torch.inference_mode():
        ours, again = model(pixels), open_published(place).model(pixels)
    return Exported(
        folder=str(place),
        model_type=_MODEL_TYPE,
        difference=float((ours - again).abs().max()),
        scale=float(ours.std()),
        peer_difference=_peer_difference(place, pixels, ours),
    )


def _require_place(config: RunConfig, sizes: VitConfig) -> None:
    if sizes.input != "image":
        kind = config.task.partition("-")[0]
        what = {"audio": "recordings", "series": "series"}.get(kind, "rows of numbers")
        raise ConfigError(
            f"export: a model of {what}, which no published layout here reads: those of a Vision "
            "Transformer are of images alone."
        )
    if config.attention != AttentionConfig():
        raise ConfigError(
            f"attention {config.attention.summary()}: published configurations tell no pattern, "
            "so others would compute full attention.  Export a model with full attention."
        )
    if sizes.pooling != "first":
        raise ConfigError(
            f"model.pooling={sizes.pooling}: published classifiers of this layout read the class "
            "token alone.  Train with `model.pooling=first`."
        )


def _preparation(sizes: VitConfig, data: DataConfig) -> dict[str, object]:
    """Tell how pixels are prepared; without mean and deviation they stay as they are."""
    mean, std = data.mean or [0.0] * sizes.channels, data.std or [1.0] * sizes.channels
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": sizes.height, "width": sizes.width},
        "resample": _BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / BRIGHTEST,
        "do_normalize": True,
        "image_mean": _shares(mean),
        "image_std": _shares(std),
    }


def _shares(values: Sequence[float]) -> list[float]:
    return [value / BRIGHTEST for value in values]


def _checked_pixels(sizes: VitConfig) -> Tensor:
    shape = (_CHECKED_IMAGES, sizes.channels, sizes.height, sizes.width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _peer_difference(folder: Path, pixels: Tensor, ours: Tensor) -> float | None:
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    peer = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return float((ours - peer(pixel_values=pixels).logits).abs().max())
