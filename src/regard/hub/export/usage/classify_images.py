"""Labels of images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ImageClassifier:
    """Classifies images with a session and the JSON files of a folder."""

    def __init__(self, folder: str, session: Any) -> None:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.labels = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
        path = Path(folder) / "preprocessor_config.json"
        self.settings = json.loads(path.read_text(encoding="utf-8"))
        self.session = session

    def encode(self, images: Sequence[NDArray]) -> dict[str, NDArray]:
        """Return the input of images of the model's shape, ``[channels, height, width]``.

        Their pixels are 0 to 255, those of a colour image red, green, blue.
        """
        pixels = np.stack(list(images)).astype(np.float32) * self.settings["rescale_factor"]
        mean, std = (
            np.array(self.settings[name], np.float32)[:, None, None]
            for name in ("image_mean", "image_std")
        )
        return {"pixel_values": ((pixels - mean) / std).astype(np.float32)}

    def __call__(self, images: Sequence[NDArray]) -> list[dict[str, float]]:
        """Return the probability of each label, for each image."""
        # The logits are [images, labels].
        logits = np.asarray(
            self.session.run(["logits"], self.encode(images))[0]
        )  # [images, labels]
        powers = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = powers / powers.sum(1, keepdims=True)
        return [dict(zip(self.labels, row, strict=True)) for row in probabilities.tolist()]
