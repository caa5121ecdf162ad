"""Published models of images in Hugging Face's format: under which settings they are used."""

from __future__ import annotations

from pathlib import Path

from regard.hub.hugging_face.checkpoint import Published, read_hugging_face
from regard.hub.hugging_face.weight_files import read_json
from regard.models import INPUT_CHECKPOINT_FORMATS, VitConfig
from regard.setup.config import DataConfig, RunConfig

_MIDDLE = [0.5, 0.5, 0.5]  # of ViT's own preparation: pixels from -1 to 1
BRIGHTEST = 255
"""Value of a pixel that is as bright as can be."""


def reads_images(folder: str | Path) -> bool:
    """Return whether a folder in Hugging Face's format holds a model of images."""
    return read_json(Path(folder) / "config.json").get("model_type") in INPUT_CHECKPOINT_FORMATS


def read_published_images(folder: str | Path) -> Published:
    """Read such a folder.

    Raises:
        ConfigError: It is none that can be read.
        WeightsError: A file is missing, damaged or a pickle, or tensors are missing or surplus.
    """
    return read_hugging_face(Path(folder), INPUT_CHECKPOINT_FORMATS)


def images_config(published: Published) -> RunConfig:
    """Make the settings of a published model of images.

    Labels are those of ``config.json``, and pixels are prepared as ``preprocessor_config.json``
    says, from -1 to 1 without one.
    """
    model = published.config
    assert isinstance(model, VitConfig)
    names = read_json(published.folder / "config.json").get("id2label") or {}
    labels = tuple(str(names.get(str(n), f"LABEL_{n}")) for n in range(model.num_labels))
    path = published.folder / "preprocessor_config.json"
    fields = read_json(path) if path.is_file() else {}
    mean, std = (fields.get(name) or _MIDDLE for name in ("image_mean", "image_std"))
    if not fields.get("do_normalize", True):
        mean, std = [0.0] * model.channels, [1.0] * model.channels
    data = DataConfig(
        labels=labels,
        mean=tuple(BRIGHTEST * float(value) for value in mean[: model.channels]),
        std=tuple(BRIGHTEST * float(value) for value in std[: model.channels]),
    )
    return RunConfig(task="image-classification", model=model, data=data)
