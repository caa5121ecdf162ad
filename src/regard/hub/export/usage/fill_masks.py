"""The most probable tokens for a mask in a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


class MaskFiller:
    """Predicts masked tokens with a session, ``tokenizer.json`` and ``config.json``."""

    def __init__(self, folder: str, session: Any) -> None:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.mask_id = config["regard"]["mask_token_id"]
        self.session = session
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        mask = self.tokenizer.get_added_tokens_decoder()[self.mask_id]
        self.tokenizer.encode_special_tokens = not mask.special

    def encode(self, text: str) -> dict[str, NDArray]:
        """Return the inputs of a text, ``[1, length]`` each."""
        row = self.tokenizer.encode(text)
        return {
            "input_ids": np.array([row.ids], np.int64),
            "attention_mask": np.array([row.attention_mask], np.int64),
        }

    def __call__(self, text: str, num: int = 5) -> list[list[tuple[str, float]]]:
        """Return the most probable tokens, with their probabilities, for each mask of a text."""
        inputs = self.encode(text)
        logits = np.asarray(self.session.run(["logits"], inputs)[0])  # [1, length, vocab]
        logits = logits[inputs["input_ids"] == self.mask_id]  # [masks, vocab]
        ids = list(self.tokenizer.get_vocab().values())
        logits[:, np.isin(np.arange(logits.shape[1]), ids, invert=True)] = -np.inf
        powers = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = powers / powers.sum(1, keepdims=True)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :num]
        return [
            [(self.tokenizer.decode([token]), float(row[token])) for token in tokens.tolist()]
            for row, tokens in zip(probabilities, best, strict=True)
        ]
