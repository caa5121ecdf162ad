"""The window of a text in which answers are explained, and their first and last tokens there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.tasks.question_answering.predictor import QuestionAnswerer
from regard.tasks.question_answering.text_windows import WindowBatches, window_logits


def find_span(context: str, answer: str) -> tuple[int, int]:
    """Return the characters of an answer where a text has it first.

    Raises:
        ConfigError: The text does not have it.
    """
    start = context.find(answer)
    if start < 0 or not answer:
        raise ConfigError(f"the answer {answer!r} is not in the context.")
    return start, start + len(answer)


def best_window(
    answerer: QuestionAnswerer, batches: WindowBatches, spans: Sequence[tuple[int, int] | None]
) -> tuple[int, list[tuple[int, int]]]:
    """Return the window that holds all spans and where the first is most probable.

    Args:
        answerer: The predictor.
        batches: All windows of one question.
        spans: Characters of each answer; None is "no answer".

    Returns:
        The window, and the positions of the first and the last token of each span in it.

    Raises:
        ConfigError: No window holds them all.
    """
    windows: dict[int, tuple[float, list[tuple[int, int]]]] = {}
    for index in range(len(batches.windows)):
        batch = batches.batch(np.array([index]))
        with torch.inference_mode():
            rows = window_logits(answerer.model, batch).log_softmax(1)[0].cpu()  # [length, 2]
        inside = batch.is_context[0].nonzero()[:, 0].tolist()
        characters = {i: batches.characters(index, i, i) for i in inside}
        ends = [_best_tokens(rows, characters, span) for span in spans]
        positions = [*filter(None, ends)]
        if len(positions) == len(spans):
            first, last = positions[0]
            windows[index] = float(rows[first, 0] + rows[last, 1]), positions
    if not windows:
        raise ConfigError("no part of the context that the model reads at once holds the answers.")
    best = max(windows, key=lambda index: windows[index][0])
    return best, windows[best][1]


def _best_tokens(
    log_probabilities: Tensor,
    characters: Mapping[int, tuple[int, int]],
    span: tuple[int, int] | None,
) -> tuple[int, int] | None:
    """Return the first and the last token of a span; None where a window does not hold it whole.

    Args:
        log_probabilities: Those of starts and ends in a window, of shape ``[length, 2]``.
        characters: Those of each token of the text, by its position.
        span: Characters of the answer. A token without characters, such as the space before a
            word, may begin or end it: the more probable one is taken. None is "no answer".
    """
    if span is None:
        return 0, 0
    touched = [i for i, (start, end) in characters.items() if end > span[0] and start < span[1]]
    if not touched:
        return None
    first, last = touched[0], touched[-1]
    if characters[first][0] > span[0] or characters[last][1] < span[1]:
        return None
    firsts = [first, *(i for i, (start, _) in characters.items() if start == span[0] and i < first)]
    lasts = [last, *(i for i, (_, end) in characters.items() if end == span[1] and i > last)]
    return (
        max(firsts, key=lambda i: float(log_probabilities[i, 0])),
        max(lasts, key=lambda i: float(log_probabilities[i, 1])),
    )
