"""Texts that a model writes for others, such as translations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from regard.hub.export.usage.decoder_step import DecoderSteps, apply_rules, log_softmax


class TextWriter:
    """Writes with two sessions, ``tokenizer.json`` and the other JSON files of a folder."""

    def __init__(self, folder: str, encoder: Any, decoder: Any) -> None:
        self.encoder, self.decoder = encoder, decoder
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # "</s>" in a text is text like any other
        files = ("config.json", "generation_config.json")
        config, rules = (json.loads((Path(folder) / name).read_text("utf-8")) for name in files)
        self.prefix: str = config["regard"]["source_prefix"]
        self.rules: dict[str, Any] = rules
        self.beam: int = rules.get("num_beams", 1)
        self.start, self.end = rules["decoder_start_token_id"], rules["eos_token_id"]
        unused = [token for (token,) in rules.get("bad_words_ids", ()) if token != self.end]
        self.forbidden: list[int] = [*unused, *rules.get("suppress_tokens", ())]

    def encode(self, text: str) -> dict[str, NDArray]:
        """Return the inputs of a text as a batch, ``[1, length]`` each."""
        row = self.tokenizer.encode(self.prefix + text.removeprefix(self.prefix))
        ids = np.array([row.ids], np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    def logits(self, inputs: dict[str, NDArray], steps: DecoderSteps, tokens: NDArray) -> NDArray:
        """Return logits ``[batch, length, vocab]`` after the next tokens of one text."""
        if "encoder_hidden_states" not in inputs:
            (inputs["encoder_hidden_states"],) = self.encoder.run(
                ["last_hidden_state"],
                {name: inputs[name] for name in ("input_ids", "attention_mask")},
            )
        source = {
            "encoder_input_ids": inputs["input_ids"],
            "encoder_attention_mask": inputs["attention_mask"],
            "encoder_hidden_states": inputs["encoder_hidden_states"],
        }
        repeated = {name: np.repeat(array, len(tokens), 0) for name, array in source.items()}
        return steps({"input_ids": tokens, **repeated})

    def limit(self, num_source: int) -> int:
        """Return the maximum number of tokens of an output, its end counted."""
        ratio = self.rules.get("regard", {}).get("max_length_ratio")
        limits = [] if ratio is None else [int(num_source * ratio) + 10]
        if "max_length" in self.rules:
            limits.append(self.rules["max_length"] - 1)  # which counts the token that begins
        return min(limits)

    def constrain(self, scores: NDArray, tokens: NDArray, limit: int) -> NDArray:
        """Return scores ``[batch, vocab]`` by the rules of the folder."""
        rules, length = self.rules, tokens.shape[1]  # with the next token
        forbidden = [*self.forbidden, *([self.end] * (length < rules.get("min_length", 0)))]
        scores = apply_rules(scores, tokens, rules, forbidden)
        first, last = rules.get("forced_bos_token_id"), rules.get("forced_eos_token_id")
        for token, is_forced in ((first, length == 1), (last, length == limit)):
            if token is not None and is_forced:
                scores = np.where(np.arange(scores.shape[1]) == token, 0.0, -np.inf)[None]
                scores = scores.repeat(len(tokens), 0)
        return log_softmax(scores) if rules.get("renormalize_logits") else scores

    def divisor(self, length: int) -> float:
        """Return what the log-probability of an output of a length is divided by."""
        own = self.rules.get("regard", {})
        if own.get("ranking") == "wu":
            return ((5 + length) / 6) ** own["length_penalty"]
        return length ** self.rules.get("length_penalty", 1.0)

    def is_done(self, scores: Sequence[float], best: float, length: int, limit: int) -> bool:
        """Return whether no output that is still written can be better than those that ended."""
        own = self.rules.get("regard", {})
        names = {"never": "certain", True: "first"}
        stopping = own.get("stopping") or names.get(self.rules.get("early_stopping"), "likely")
        num_needed = 1 if stopping == "certain" else self.beam
        if best == -np.inf or length >= limit or (self.beam == 1 and scores):
            return True
        if len(scores) < num_needed:
            return False
        is_bounded = stopping == "certain" and self.divisor(limit) > self.divisor(1)
        bound = best / self.divisor(limit if is_bounded else length)
        return stopping == "first" or sorted(scores)[-num_needed] >= bound

    def search(self, inputs: dict[str, NDArray]) -> list[int]:
        """Return the tokens of the best output for the inputs of one text."""
        limit, beam = self.limit(inputs["input_ids"].shape[1]), self.beam
        cuts = self.rules.get("regard", {}).get("ranking") != "wu"  # outputs at the limit count
        steps = DecoderSteps(self.decoder, 1)
        tokens, totals = np.full((1, 1), self.start, np.int64), np.zeros(1)
        outputs: list[tuple[float, list[int]]] = []
        while True:
            logits, length = self.logits(inputs, steps, tokens[:, -1:])[:, -1], tokens.shape[1]
            scores = logits if beam == 1 else log_softmax(logits)
            sums = (totals[:, None] + self.constrain(scores, tokens, limit)).reshape(-1)
            best = np.argpartition(-sums, min(2 * beam, len(sums) - 1))[: 2 * beam]
            best = np.sort(best)[np.argsort(-sums[np.sort(best)], kind="stable")]
            best = best[sums[best] > -np.inf]
            rows, ids = np.divmod(best, logits.shape[1])
            is_closed = (ids == self.end) | (cuts and length >= limit)
            for index in np.flatnonzero(is_closed[:beam]):
                ids_of_end = [] if ids[index] == self.end else [int(ids[index])]
                output = [*tokens[rows[index], 1:].tolist(), *ids_of_end]
                outputs.append((float(sums[best[index]]) / self.divisor(length), output))
            remaining = np.flatnonzero(~is_closed)[:beam]
            if len(remaining):
                tokens = np.concatenate([tokens[rows[remaining]], ids[remaining, None]], 1)
                totals = np.zeros(1) if beam == 1 else sums[best[remaining]]
                steps.select(rows[remaining])
            top = totals.max() if len(remaining) else -np.inf
            if self.is_done([score for score, _ in outputs], top, length, limit):
                break
        return max(outputs)[1] if outputs else tokens[totals.argmax(), 1:].tolist()

    def log_probabilities(self, inputs: dict[str, NDArray], ids: list[int]) -> NDArray:
        """Return the log-probability of each token of an output for the inputs of one text."""
        steps, tokens = DecoderSteps(self.decoder, 1), np.array([[self.start, *ids[:-1]]], np.int64)
        scores = log_softmax(self.logits(inputs, steps, tokens)[0])
        return scores[np.arange(len(ids)), ids]

    def __call__(self, text: str) -> str:
        """Return what the model writes for a text, by steps of ``[batch, 1]`` tokens."""
        return self.tokenizer.decode(self.search(self.encode(text))) if text.strip() else ""
