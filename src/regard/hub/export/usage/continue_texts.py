"""Texts that a language model continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from regard.hub.export.usage.decoder_step import DecoderSteps, apply_rules, log_softmax


class TextGenerator:
    """Continues with a session, ``tokenizer.json`` and the other JSON files of a folder."""

    def __init__(self, folder: str, session: Any) -> None:
        self.session = session
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # "</s>" in a text is text like any other
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        files = ("config.json", "generation_config.json")
        config, rules = (json.loads((Path(folder) / name).read_text("utf-8")) for name in files)
        self.max_length: int | None = config["regard"]["max_length"]
        self.rules: dict[str, Any] = rules
        ends = rules.get("eos_token_id", [])
        self.ends = ends if isinstance(ends, list) else [ends]

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a prompt; those that begin a text where it is empty."""
        return self.tokenizer.encode(text).ids or [self.rules["bos_token_id"]]

    def logits(self, tokens: NDArray, steps: DecoderSteps) -> NDArray:
        """Return logits ``[1, new, vocab]`` after the tokens ``[1, length]`` that are new."""
        num_past = next(iter(steps.past.values())).shape[2]
        inputs = {
            "input_ids": tokens[:, num_past:],
            "attention_mask": np.ones_like(tokens),
            "position_ids": np.arange(num_past, tokens.shape[1])[None],
        }
        return steps(inputs)

    def log_probabilities(self, row: list[int]) -> NDArray:
        """Return the log-probability of each token of a text but the first."""
        logits = self.logits(np.array([row[:-1]], np.int64), DecoderSteps(self.session, 1))
        return log_softmax(logits[0])[np.arange(len(row) - 1), row[1:]]

    def probabilities(
        self, logits: NDArray, temperature: float, top_k: int, top_p: float
    ) -> NDArray:
        """Return the distribution of the next token, by logits ``[vocab]``."""
        if temperature == 0:
            return (np.arange(len(logits)) == logits.argmax()).astype(float)
        order = np.argsort(-logits, kind="stable")[: top_k or None]
        powers = np.exp((logits[order] - logits[order[0]]) / temperature)
        powers /= powers.sum()
        num = int((powers.cumsum() - powers < top_p).sum())  # the last of these reaches top_p
        result = np.zeros(len(logits))
        result[order[:num]] = powers[:num] / powers[:num].sum()
        return result

    def __call__(
        self,
        prompt: str,
        max_tokens: int | None = None,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> str:
        """Return a continuation, by steps of ``[batch, new]`` tokens.

        What is None is as the folder says; temperature 0 is greedy.

        Raises:
            ValueError: The prompt is longer than the model reads.
        """
        rules, generator = self.rules, np.random.default_rng(seed)
        heat = rules.get("temperature", 1.0) if rules.get("do_sample") else 0.0
        drawing = (
            heat if temperature is None else temperature,
            rules.get("top_k", 0) if top_k is None else top_k,
            rules.get("top_p", 1.0) if top_p is None else top_p,
        )
        row = self.encode(prompt)
        num_prompt = len(row)
        if max_tokens is None:
            limit = rules.get("max_length", num_prompt + rules.get("max_new_tokens", 0))
        else:
            limit = num_prompt + max_tokens
        if self.max_length is not None:
            limit = min(limit, self.max_length)
            if num_prompt >= self.max_length:
                raise ValueError(f"the prompt has {self.max_length} tokens or more")
        steps, forbidden = DecoderSteps(self.session, 1), rules.get("suppress_tokens", [])
        while len(row) < limit:
            tokens = np.array([row], np.int64)
            is_early = len(row) - num_prompt < rules.get("min_new_tokens", 0)
            logits = self.logits(tokens, steps)[:, -1]
            scores = apply_rules(logits, tokens, rules, [*forbidden, *self.ends * is_early])
            chances = self.probabilities(scores[0], *drawing)
            row.append(int(generator.choice(len(chances), p=chances)))
            if row[-1] in self.ends:
                break
        before = self.tokenizer.decode(row[:num_prompt])
        return self.tokenizer.decode(row)[len(before) :]
