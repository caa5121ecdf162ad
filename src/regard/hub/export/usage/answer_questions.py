"""Answers to questions, found in a text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

OF_QUESTION, OF_CONTEXT, IN_BOTH = 0, 1, 2  # roles of tokens


class Window(NamedTuple):
    """A question with a part of its text: inputs, and the characters of each token of the text."""

    inputs: dict[str, NDArray]
    first: int  # position of the first token of the text
    offsets: list[tuple[int, int]]


class QuestionAnswerer:
    """Finds answers with a session, and ``tokenizer.json`` and ``config.json`` of a folder."""

    def __init__(self, folder: str, session: Any) -> None:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.settings: dict[str, Any] = config["regard"]
        self.session = session
        self.names = [node.name for node in self.session.get_inputs()]
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # "</s>" in a text is text like any other
        self.tokenizer.no_truncation()  # a long text is read in windows
        self.tokenizer.no_padding()

    def windows(self, question: str, context: str) -> Iterator[Window]:
        """Yield a question with each part of its text; neighbouring parts overlap."""
        settings = self.settings
        begin, between, end = (settings[name] for name in ("begin", "between", "end"))
        asked = self.tokenizer.encode(question, add_special_tokens=False).ids
        asked = asked[: settings["max_question"]]
        tokens = self.tokenizer.encode(context, add_special_tokens=False)
        room = settings["max_length"] - len(begin) - len(asked) - len(between) - len(end)
        step = room - min(settings["overlap"], room // 2)
        for start in range(0, max(1, step + len(tokens.ids) - room), step):
            offsets = tokens.offsets[start : start + room]
            part = tokens.ids[start : start + room]
            sizes = [len(begin), len(asked), len(between), len(part), len(end)]
            ids = [*begin, *asked, *between, *part, *end]
            first = sum(sizes[:3])
            inputs = {"input_ids": ids, "attention_mask": [1] * len(ids)}
            if "token_type_ids" in self.names:
                inputs["token_type_ids"] = np.repeat(settings["segments"], sizes).tolist()
            if "token_roles" in self.names:
                roles = self.roles(question, context, offsets)
                inputs["token_roles"] = [OF_QUESTION] * first + roles + [OF_QUESTION] * len(end)
            arrays = {name: np.array([row], np.int64) for name, row in inputs.items()}
            yield Window(arrays, first, offsets)

    def roles(self, question: str, context: str, offsets: list[tuple[int, int]]) -> list[int]:
        """Return for each token of a text whether its word is in the question, too."""
        word = re.compile(self.settings["word"])
        asked = {match[0].casefold() for match in word.finditer(question)}
        spans = [m.span() for m in word.finditer(context) if m[0].casefold() in asked]
        return [
            IN_BOTH if any(begin < stop and start < end for begin, end in spans) else OF_CONTEXT
            for start, stop in offsets
        ]

    def __call__(self, question: str, context: str) -> dict[str, Any]:
        """Return the answer, or None, with its characters in the text and its probability."""
        best, null = (-math.inf, 0, 0), math.inf  # log-probabilities
        for inputs, first, offsets in self.windows(question, context):
            if not offsets:
                continue
            outputs = self.session.run(["start_logits", "end_logits"], inputs)
            starts, ends = (np.asarray(logits, np.float64)[0] for logits in outputs)
            is_read = np.zeros(len(starts), bool)  # the first token is "no answer"
            is_read[[0, *range(first, first + len(offsets))]] = True
            starts, ends = (x - np.logaddexp.reduce(x[is_read]) for x in (starts, ends))
            null = min(null, starts[0] + ends[0])
            inside = slice(first, first + len(offsets))
            gaps = np.arange(len(offsets)) - np.arange(len(offsets))[:, None]
            is_span = (gaps >= 0) & (gaps < self.settings["max_answer_tokens"])
            pairs = np.where(is_span, np.add.outer(starts[inside], ends[inside]), -np.inf)
            begin, end = np.unravel_index(pairs.argmax(), pairs.shape)  # of [first, last]
            if pairs[begin, end] > best[0]:
                best = pairs[begin, end], offsets[begin][0], offsets[end][1]
        threshold = self.settings["no_answer_threshold"]
        text = context[best[1] : best[2]].strip()
        if not text or (threshold is not None and null - best[0] > threshold):
            probability = math.exp(null) if math.isfinite(null) else 1.0
            return {"answer": None, "probability": probability}
        return {"answer": text, "probability": math.exp(best[0])}
