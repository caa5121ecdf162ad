"""What a model makes of real texts, in the form in which its export is compared with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec.structs import replace

from regard.data.batching import TokenRows
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.any_tokenizer import prepend_special_tokens, split_tokenizer
from regard.models import Decoder, EncoderDecoder
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.tasks.question_answering.predictor import QuestionAnswerer, unanswered
from regard.tasks.sequence_to_sequence.decode_rows import (
    decode_rows,
    forbid_unused_ids,
    special_ids,
)
from regard.tasks.sequence_to_sequence.predictor import TargetWriter

NUM_CANDIDATES = 5  # for a masked token
_CONTINUED_TOKENS = 32  # of a text that is continued
_LONGEST_OUTPUT = 128  # tokens of a translation or summary
_PROMPT_WORDS = 12

TextReader = TargetWriter | TextClassifier | QuestionAnswerer | TextGenerator | TextEncoder
"""A trained model that reads texts."""
InputReader = InputClassifier | Forecaster
"""A trained model that reads images, recordings or series."""


class TextOutput(NamedTuple):
    """What a model makes of a text.

    Args:
        tokens: Ids of the input, special tokens included.
        output: Text that is written, or label.
        numbers: Probabilities, or the vector of the text.
    """

    tokens: tuple[int, ...]
    output: str = ""
    numbers: tuple[float, ...] = ()


def model_outputs(opened: TextReader, texts: Sequence[str]) -> tuple[list[str], list[TextOutput]]:
    """Return the inputs made of texts, such as prompts, and a model's own outputs for them."""
    if isinstance(opened, TargetWriter):
        return _translate(opened, texts)
    if isinstance(opened, TextClassifier):
        return list(texts), _classify(opened, texts)
    if isinstance(opened, QuestionAnswerer):
        return _answer(opened, texts)
    if isinstance(opened, TextGenerator):
        prompts = [" ".join(text.split()[:_PROMPT_WORDS]) for text in texts]
        exact = TextGenerator(opened.model, opened.tokenizer, opened.config)
        exact.precision = "float32"
        return prompts, [_generate(exact, prompt) for prompt in prompts]
    if opened.model.head is None or opened.tokenizer.mask_id is None:
        prepared = list(map(opened.prepare, texts))
        rows = opened.tokenizer.encode_truncated(prepared, max_length=opened.max_length)
        vectors = opened.embed(texts).tolist()
        return list(texts), [
            TextOutput(tuple(row), numbers=tuple(vector))
            for row, vector in zip(rows, vectors, strict=True)
        ]
    return _fill(opened, texts)


def compared_search(opened: TargetWriter) -> BeamSearchConfig:
    """Return the search of a model, for the best output of at most some tokens."""
    search = opened.config.search
    limit = search.max_length or scored_tokens(opened) or _LONGEST_OUTPUT
    search = replace(search, num_best=1, max_length=min(limit, _LONGEST_OUTPUT))
    return forbid_unused_ids(search, opened.model, opened.tokenizer)


def scored_tokens(opened: TargetWriter) -> int | None:
    """Return how many tokens of an output with its end have a position; None is all of them."""
    return getattr(opened.model.config, "max_positions", None)


def continued_tokens(opened: TextGenerator, num_prompt: int) -> int:
    """Return the number of tokens of a continuation that is compared, after those of a prompt."""
    most = opened.model.num_positions
    return _CONTINUED_TOKENS if most is None else max(1, min(_CONTINUED_TOKENS, most - num_prompt))


def question_of(text: str) -> str:
    """Return a question about a text that any text has: its first words."""
    return " ".join(text.split()[:_PROMPT_WORDS])


def label_output(
    probabilities: Mapping[str, float], labels: Sequence[str], tokens: Sequence[int] = ()
) -> TextOutput:
    """Return the most probable label as an output, with the probabilities in the order of labels.

    Args:
        probabilities: Of each label.
        labels: All labels, in the order of the model.
        tokens: Ids of the input; none of one that is not a text.
    """
    best = max(probabilities, key=probabilities.__getitem__)
    return TextOutput(tuple(tokens), best, tuple(probabilities[label] for label in labels))


def _translate(opened: TargetWriter, texts: Sequence[str]) -> tuple[list[str], list[TextOutput]]:
    """Translate the texts that are short enough for one part; longer ones are cut outside."""
    ids = special_ids(opened.model, opened.tokenizer)
    source, _ = split_tokenizer(opened.tokenizer)
    rows = prepend_special_tokens(source, opened.encode_sources(texts))
    longest = opened.max_source_length
    short = [index for index, row in enumerate(rows) if row and len(row) < longest]
    decoded = decode_rows(opened.model, TokenRows(rows), short, compared_search(opened), ids)
    outputs = opened.tokenizer.decode([best.ids for best, *_ in decoded])
    results = []
    for index, output, (best, *_) in zip(short, outputs, decoded, strict=True):
        source = (*rows[index], *ids.after_source)
        target = (*best.ids, ids.end)[: scored_tokens(opened)]
        score = _mean_log_probability(opened.model, source, target)
        results.append(TextOutput(source, output, (score,)))
    return [texts[index] for index in short], results


@torch.inference_mode()
def _mean_log_probability(
    model: EncoderDecoder[Any], source: Sequence[int], target: Sequence[int]
) -> float:
    """Compute the mean log-probability of the tokens of an output, in nats.

    Args:
        model: Model in evaluation mode.
        source: Token ids of the source, its end included.
        target: Token ids of the output.

    Returns:
        The mean, 0 or less.
    """
    inputs = torch.tensor([[model.start_id, *target[:-1]]])
    log_probabilities = model(torch.tensor([source]), inputs)[0].float().log_softmax(-1)
    return float(log_probabilities.gather(1, torch.tensor(target)[:, None]).mean())


def _classify(opened: TextClassifier, texts: Sequence[str]) -> list[TextOutput]:
    rows = opened.tokenizer.encode_truncated(texts, max_length=opened.max_length)
    return [
        label_output(best.probabilities, opened.labels, row)
        for row, best in zip(rows, opened.classify_rows(texts), strict=True)
    ]


def _answer(opened: QuestionAnswerer, texts: Sequence[str]) -> tuple[list[str], list[TextOutput]]:
    """Answer a question about each text that is short enough for one window."""
    questions = list(map(question_of, texts))
    batches = opened.batches(unanswered(questions, texts))
    first_of = {window.row: index for index, window in enumerate(batches.windows)}
    counts = Counter(window.row for window in batches.windows)
    always = QuestionAnswerer(opened.model, opened.tokenizer, opened.config)  # without a threshold
    inputs, outputs = [], []
    for row, (question, text) in enumerate(zip(questions, texts, strict=True)):
        if counts[row] == 1:
            batch = batches.batch(np.array([first_of[row]]))
            result = always.answer(question, text)
            inputs.append(text)
            tokens = tuple(batch.ids[0].tolist())
            outputs.append(TextOutput(tokens, result.answer or "", (result.probability,)))
    return inputs, outputs


def _generate(opened: TextGenerator, prompt: str) -> TextOutput:
    tokens = opened.tokenizer.encode_prompt(prompt)
    limit = continued_tokens(opened, len(tokens))
    output = opened.generate(prompt, temperature=0, max_tokens=limit).text
    return TextOutput(tuple(tokens), output, _prompt_numbers(opened.model, tokens))


@torch.inference_mode()
def _prompt_numbers(model: Decoder, tokens: Sequence[int]) -> tuple[float, ...]:
    """Return the mean log-probability of the tokens of a prompt; none for a single one."""
    if len(tokens) == 1:
        return ()
    ids = torch.tensor([tokens])
    log_probabilities = model(ids[:, :-1])[0].float().log_softmax(-1)  # [length - 1, vocab]
    return (float(log_probabilities.gather(1, ids[0, 1:, None]).mean()),)


def _fill(opened: TextEncoder, texts: Sequence[str]) -> tuple[list[str], list[TextOutput]]:
    tokenizer = opened.tokenizer
    assert tokenizer.mask_id is not None, "a model with a mask"
    (mask,) = tokenizer.pieces([tokenizer.mask_id])
    inputs, outputs = [], []
    for text in (_masked(text, mask) for text in texts):
        row = tokenizer.encode_masked(text)
        if len(row) <= opened.model.config.max_positions:
            (candidates,) = opened.fill(text, num=NUM_CANDIDATES)
            inputs.append(text)
            outputs.append(TextOutput(tuple(row), numbers=tuple(p for _, p in candidates)))
    return inputs, outputs


def _masked(text: str, mask: str) -> str:
    """Return the first words of a text, the last one replaced by a mask."""
    words = text.split()[:_PROMPT_WORDS]
    return " ".join([*words[:-1], mask])
