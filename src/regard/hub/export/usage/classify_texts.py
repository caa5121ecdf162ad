"""Labels of texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


class TextClassifier:
    """Classifies texts with a session, and ``tokenizer.json`` and ``config.json`` of a folder."""

    def __init__(self, folder: str, session: Any) -> None:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.labels = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
        self.has_one_label = config.get("problem_type") != "multi_label_classification"
        self.threshold = config.get("label_threshold", 0.5)  # of a text with any number of labels
        self.session = session
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # "</s>" in a text is text like any other

    def encode(self, texts: Sequence[str]) -> dict[str, NDArray]:
        """Return the inputs of texts, ``[texts, length]`` each: cut, and padded on the right."""
        rows = self.tokenizer.encode_batch(list(texts))
        columns = {
            "input_ids": [row.ids for row in rows],
            "attention_mask": [row.attention_mask for row in rows],
        }
        length = len(rows[0].ids) if rows else 1
        return {
            name: np.array(values, np.int64).reshape(len(rows), length)
            for name, values in columns.items()
        }

    def __call__(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return the probability of each label, for each text that is not blank."""
        logits = np.asarray(self.session.run(["logits"], self.encode(texts))[0])  # [texts, labels]
        if self.has_one_label:
            powers = np.exp(logits - logits.max(1, keepdims=True))
            probabilities = powers / powers.sum(1, keepdims=True)
        else:
            probabilities = 0.5 * (1 + np.tanh(0.5 * logits))  # the logistic function
        return [dict(zip(self.labels, row, strict=True)) for row in probabilities.tolist()]
