"""Steps of a decoder, with the keys and values of those before, and rules on the next token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class DecoderSteps:
    """Takes the steps of a decoder for some rows, by a session."""

    def __init__(self, session: Any, rows: int) -> None:
        self.session = session
        inputs = session.get_inputs()
        self.names = [node.name for node in inputs]
        self.past: dict[str, NDArray] = {}
        for node in inputs:
            if node.name.startswith("past_key_values."):
                sizes = [size if isinstance(size, int) else 0 for size in node.shape[1:]]
                self.past[node.name] = np.zeros((rows, *sizes), np.float32)

    def __call__(self, inputs: Mapping[str, NDArray]) -> NDArray:
        """Return logits ``[batch, length, vocab]`` after the next tokens."""
        # Keys and values of a source are the same after every step.
        names = [name for name in self.past if ".encoder." not in name or not self.past[name].size]
        outputs = ["logits", *(name.replace("past_key_values", "present") for name in names)]
        arrays = {name: array for name, array in inputs.items() if name in self.names}
        logits, *present = self.session.run(outputs, arrays | self.past)
        self.past.update(zip(names, present, strict=True))
        return np.asarray(logits, np.float64)

    def select(self, rows: NDArray) -> None:
        """Keep, repeat or reorder rows by index."""
        self.past = {name: keys[rows] for name, keys in self.past.items()}


def log_softmax(logits: NDArray) -> NDArray:
    """Return the logarithm of the probabilities of ``[batch, length, vocab]``."""
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def apply_rules(
    scores: NDArray, tokens: NDArray, rules: Mapping[str, Any], forbidden: Sequence[int]
) -> NDArray:
    """Return scores ``[batch, vocab]`` after ``[batch, length]`` by ``generation_config.json``."""
    scores, size = scores.copy(), rules.get("no_repeat_ngram_size", 0)
    for row, history in zip(scores, tokens, strict=True):
        used = np.unique(history)
        penalty = rules.get("repetition_penalty", 1.0)
        row[used] = np.where(row[used] < 0, row[used] * penalty, row[used] / penalty)
        row[list(forbidden)] = -np.inf
        if 0 < size <= len(history):
            ngrams = np.lib.stride_tricks.sliding_window_view(history, size)
            latest = history[len(history) - size + 1 :]
            row[ngrams[(ngrams[:, :-1] == latest).all(1), -1]] = -np.inf
    return scores
