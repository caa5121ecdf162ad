"""Labels of series: rows of numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RowClassifier:
    """Classifies rows of numbers with a session and the JSON files of a folder."""

    def __init__(self, folder: str, session: Any) -> None:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.labels = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
        path = Path(folder) / "preprocessor_config.json"
        self.settings = json.loads(path.read_text(encoding="utf-8"))
        self.session = session

    def encode(self, inputs: Sequence[NDArray]) -> dict[str, NDArray]:
        """Return the inputs of arrays of shape ``[length, features]``: cut, and padded at the end.

        Each feature is brought to mean 0 and variance 1, as in training.
        """
        mean, std = (np.array(self.settings[name]) for name in ("mean", "std"))
        rows = [
            (np.asarray(values, np.float64)[: self.settings["max_length"]] - mean) / std
            for values in inputs
        ]
        shape = (len(rows), max(map(len, rows)), len(mean))
        features, is_row = np.zeros(shape, np.float32), np.zeros(shape[:2], np.int64)
        for index, values in enumerate(rows):
            features[index, : len(values)] = values
            is_row[index, : len(values)] = 1
        return {"input_features": features, "attention_mask": is_row}

    def __call__(self, inputs: Sequence[NDArray]) -> list[dict[str, float]]:
        """Return the probability of each label, for each array."""
        # The logits are [inputs, labels].
        logits = np.asarray(
            self.session.run(["logits"], self.encode(inputs))[0]
        )  # [inputs, labels]
        powers = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = powers / powers.sum(1, keepdims=True)
        return [dict(zip(self.labels, row, strict=True)) for row in probabilities.tolist()]
