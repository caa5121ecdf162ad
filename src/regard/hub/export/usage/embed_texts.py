"""Vectors of texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase


class TextEncoder:
    """Computes vectors with a session, and ``tokenizer.json`` and ``config.json`` of a folder."""

    def __init__(self, folder: str, session: Any) -> None:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.settings = config["regard"]
        self.session = session
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # "</s>" in a text is text like any other

    def encode(self, texts: Sequence[str]) -> dict[str, NDArray]:
        """Return the inputs of texts, ``[texts, length]`` each: cut, and padded on the right."""
        texts = [self.settings["prompt"] + text for text in texts]
        if self.settings["lowercases"]:
            texts = [Lowercase().normalize_str(text) for text in texts]
        rows = self.tokenizer.encode_batch(texts)
        columns = {
            "input_ids": [row.ids for row in rows],
            "attention_mask": [row.attention_mask for row in rows],
        }
        length = len(rows[0].ids) if rows else 1
        return {
            name: np.array(values, np.int64).reshape(len(rows), length)
            for name, values in columns.items()
        }

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vector of each text, ``[texts, dim]``."""
        return np.asarray(self.session.run(["sentence_embedding"], self.encode(texts))[0])
