"""Real texts through an exported model: the same tokens and outputs as those of the original.

A format is compared by a `Peer`, which reads the exported files by the library they are for. Two
models are equal if every text has the same tokens, the same output, and numbers within 1e-4.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from regard.data.batching import TokenRows
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.question_rows import AnswerPairs, Questions
from regard.data.readers.plain_lines import require_plain_lines
from regard.data.readers.source import open_source
from regard.data.readers.text_lines import read_lines
from regard.data.rows import Rows
from regard.errors import DataError, RegardError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.any_tokenizer import prepend_special_tokens, split_tokenizer
from regard.models import Decoder, EncoderDecoder, Model
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.inspect import open_sources, sources_hash
from regard.tasks import task_of
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

NUM_TEXTS = 200
NUM_TOKENS = 32  # of a text that is continued
_LONGEST_OUTPUT = 128  # tokens of a translation or summary
TOLERANCE = 1e-4
_PROMPT_WORDS = 12
NUM_CANDIDATES = 5  # for a masked token


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


TextReader = TargetWriter | TextClassifier | QuestionAnswerer | TextGenerator | TextEncoder
"""A trained model that reads texts."""
InputReader = InputClassifier | Forecaster
"""A trained model that reads images, recordings or series."""


class Peer(NamedTuple):
    """The library that an export is for.

    Args:
        name: Its name, which is also that of its package.
        outputs: Computes the outputs of texts in an exported folder.
        difference: Computes the largest difference of its numbers to the outputs of a model, from
            an exported folder, the model, its inputs and its outputs; None for a library whose
            numbers are compared on real texts alone.
        numbers: What those numbers are.
        search_difference: Returns in words what it does otherwise in a search of more than one
            beam; empty where its search is the same.
        greedy: How a search is greedy there.
        limit: Its name of the maximum number of tokens of an output.
        input_outputs: The same of other inputs, such as images; None for a library that reads none.
    """

    name: str
    outputs: Callable[[Path, TextReader, Sequence[str]], list[TextOutput]]
    difference: (
        Callable[[Path, Model, Sequence[tuple[Tensor, ...]], Sequence[Tensor]], float] | None
    ) = None
    numbers: str = "Logits"
    search_difference: Callable[[BeamSearchConfig], str] = lambda _: ""
    greedy: str = ""
    limit: str = ""
    input_outputs: Callable[[Path, InputReader, Rows], list[TextOutput]] | None = None

    @property
    def is_installed(self) -> bool:
        """Whether its package can be imported."""
        try:
            import_module(self.name)
        except ImportError:
            return False
        return True

    @property
    def why_missing(self) -> str:
        """That it is not installed, with the command that installs it."""
        return f"the package {self.name} is not installed (pip install {self.name})"


class TextCheck(msgspec.Struct, frozen=True, kw_only=True):
    """An exported model compared with the original on real texts.

    Args:
        source: Source of the texts: a file, or the validation data.
        peer: Library that read the export; empty where nothing was compared.
        num_texts: Number of texts; 0 where nothing was compared.
        num_equal: Number of texts with the same tokens, output and numbers.
        difference: Largest difference of a number.
        first: The first difference, in words; empty where there is none.
        reason: Why nothing was compared; empty where it was.
        needs_texts: Whether a file of other texts would do.
        beam: Beam of the model's search where greedy outputs were compared, since the search of the
            peer is another; 1 where the search was compared as it is.
        search_difference: What the peer does otherwise in that search, in words.
        num_equal_beams: Number of texts with the same output of that beam.
        noun: What was compared, in the singular.
        num_limited: Number of texts with another output where no limit follows from the length of
            the source: the peer has none by itself, and was given that of each text.
    """

    source: str = ""
    peer: str = ""
    num_texts: int = 0
    num_equal: int = 0
    difference: float = 0.0
    first: str = ""
    reason: str = ""
    needs_texts: bool = False
    beam: int = 1
    search_difference: str = ""
    num_equal_beams: int = 0
    num_limited: int = 0
    noun: str = "text"

    @property
    def is_equal(self) -> bool:
        """Whether texts were compared and every one is equal."""
        return 0 < self.num_texts == self.num_equal


def check_texts(
    folder: Path, opened: TextReader, peer: Peer, *, path: str | None, texts: Sequence[str] = ()
) -> TextCheck:
    """Compare an exported folder with its model on real texts.

    Args:
        folder: The export.
        opened: The model.
        peer: Reads the export.
        path: File of texts, one a line; None takes the validation data of the run.
        texts: Texts, instead of a file.

    Returns:
        What is equal, or why nothing was compared.

    Raises:
        DataError: The file of texts cannot be read.
    """
    source, texts = _source_with_texts(opened, path, texts)
    if not texts:
        return TextCheck(reason="the validation data is not at hand", needs_texts=True)
    if isinstance(opened, TargetWriter):
        texts = opened.config.data.with_prefix(texts)  # others add none
    if not peer.is_installed:
        return TextCheck(reason=peer.why_missing)
    difference = _search_difference(opened, peer)
    compared = opened
    if difference and isinstance(opened, TargetWriter):
        compared = _with_search(opened, beam=1, num_best=1)
    inputs, own = model_outputs(compared, texts[:NUM_TEXTS])
    peer_outputs = peer.outputs(folder, compared, inputs)
    check = compare_outputs(inputs, own, peer_outputs, source=source, peer=peer.name)
    check = replace(check, num_limited=_count_limited(compared, inputs, own))
    if compared is opened:
        return check
    num_equal = _count_equal_beams(folder, opened, peer, inputs)
    return replace(
        check,
        beam=opened.config.search.beam,
        search_difference=difference,
        num_equal_beams=num_equal,
    )


def _source_with_texts(
    opened: TextReader, path: str | None, texts: Sequence[str]
) -> tuple[str, list[str]]:
    """Return the name of the source of texts, and those of them that are not blank."""
    if path is not None:
        return path, require_texts(path)
    if texts:
        return "texts", _with_words(texts)
    return "validation data", _with_words(validation_texts(opened.config))


def require_texts(path: str) -> list[str]:
    """Return the texts of a file, one a line.

    Raises:
        DataError: The file cannot be read, has rows of a table or of JSON, or holds none.
    """
    source = open_source(path)
    require_plain_lines(source)
    texts = _with_words(read_lines(source))
    if not texts:
        raise DataError(f"{path}: holds no text.  Expected one text a line.")
    return texts


def _with_words(texts: Iterable[str]) -> list[str]:
    """Return the texts that are not blank."""
    return [text for text in texts if text.strip()]


def validation_data(config: RunConfig) -> Rows | None:
    """Return the validation data of a run; None where its data has changed or is missing."""
    if not config.data.sha256:
        return None
    try:
        sources = open_sources(config.data)
        if sources_hash(sources) != config.data.sha256:
            return None
        return task_of(config).read(ReadOptions.from_config(config, sources)).valid
    except RegardError:
        return None


def validation_texts(config: RunConfig) -> list[str]:
    """Return the validation texts of a run; none where its data has changed or is missing."""
    if not config.data.sha256 or task_of(config).reads_inputs:
        return []
    valid: Any = validation_data(config)
    if valid is None:
        return []
    if isinstance(valid, ParallelCorpus | AnswerPairs):
        return list(valid.sources)
    return list(dict.fromkeys(valid.contexts) if isinstance(valid, Questions) else valid.texts)


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
    search = replace(opened.config.search, num_best=1, max_length=_longest(opened))
    return forbid_unused_ids(search, opened.model, opened.tokenizer)


def continued_tokens(opened: TextGenerator, num_prompt: int) -> int:
    """Return the number of tokens of a continuation that is compared, after those of a prompt."""
    most = opened.model.num_positions
    return NUM_TOKENS if most is None else max(1, min(NUM_TOKENS, most - num_prompt))


def largest_difference(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Return the largest difference of pairs of tensors, each pair of one shape ``[...]``."""
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))


def masked(text: str, mask: str) -> str:
    """Return the first words of a text, the last one replaced by a mask."""
    words = text.split()[:_PROMPT_WORDS]
    return " ".join([*words[:-1], mask])


def _with_search(opened: TargetWriter, **changes: Any) -> TargetWriter:
    """Return the same model with another search."""
    other = copy.copy(opened)
    other.config = replace(opened.config, search=replace(opened.config.search, **changes))
    return other


def _search_difference(opened: TextReader, peer: Peer) -> str:
    """Return what a peer does otherwise in a model's own search; empty where it is the same."""
    search = opened.config.search
    if not isinstance(opened, TargetWriter) or search.beam == 1:
        return ""
    return peer.search_difference(compared_search(opened))


def _count_limited(opened: TextReader, texts: Sequence[str], outputs: Sequence[TextOutput]) -> int:
    """Return the number of texts with another output without the limit by their length."""
    if not isinstance(opened, TargetWriter):
        return 0
    longest = _longest(opened)
    unlimited = _with_search(opened, max_length_ratio=None, max_length=longest)
    return _count_different(outputs, model_outputs(unlimited, texts)[1])


def _count_equal_beams(folder: Path, opened: TextReader, peer: Peer, texts: Sequence[str]) -> int:
    """Return the number of texts with the same output of a model's own beam in both."""
    _, outputs = model_outputs(opened, texts)
    return len(texts) - _count_different(outputs, peer.outputs(folder, opened, texts))


def _longest(opened: TargetWriter) -> int:
    """Return the maximum number of tokens of the outputs that are compared."""
    positions = getattr(opened.model.config, "max_positions", None)
    limit = opened.config.search.max_length or positions or _LONGEST_OUTPUT
    return min(limit, _LONGEST_OUTPUT)


def _count_different(own: Sequence[TextOutput], peer_outputs: Sequence[TextOutput]) -> int:
    """Return the number of texts whose outputs differ."""
    return sum(left.output != right.output for left, right in zip(own, peer_outputs, strict=True))


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
        score = mean_log_probability(opened.model, source, target)
        results.append(TextOutput(source, output, (score,)))
    return [texts[index] for index in short], results


def scored_tokens(opened: TargetWriter) -> int | None:
    """Return how many tokens of an output with its end have a position; None is all of them."""
    return getattr(opened.model.config, "max_positions", None)


@torch.inference_mode()
def mean_log_probability(
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


def question_of(text: str) -> str:
    """Return a question about a text that any text has: its first words."""
    return " ".join(text.split()[:_PROMPT_WORDS])


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
    for text in (masked(text, mask) for text in texts):
        row = tokenizer.encode_masked(text)
        if len(row) <= opened.model.config.max_positions:
            (candidates,) = opened.fill(text, num=NUM_CANDIDATES)
            inputs.append(text)
            outputs.append(TextOutput(tuple(row), numbers=tuple(p for _, p in candidates)))
    return inputs, outputs


def compare_outputs(
    texts: Sequence[str],
    own: Sequence[TextOutput],
    peer_outputs: Sequence[TextOutput],
    *,
    source: str,
    peer: str,
    noun: str = "text",
) -> TextCheck:
    """Compare outputs of a model with those of its export.

    Args:
        texts: Texts, or names of other inputs.
        own: What the model gives for each.
        peer_outputs: What the export gives.
        source: Source of the texts.
        peer: Library that read the export.
        noun: What each is, in the singular.

    Returns:
        How many are equal, and the first that is not.
    """
    differences, largest = [], 0.0
    for text, ours, theirs in zip(texts, own, peer_outputs, strict=True):
        left, right = torch.tensor(ours.numbers), torch.tensor(theirs.numbers)
        if left.shape == right.shape and left.numel():
            largest = max(largest, float((left - right).abs().max()))
        if words := _difference(ours, theirs):
            differences.append(f"{text[:60]!r}: {words}")
    return TextCheck(
        source=source,
        peer=peer,
        num_texts=len(texts),
        num_equal=len(texts) - len(differences),
        difference=largest,
        first=next(iter(differences), ""),
        noun=noun,
        reason="" if texts else "every text is longer than the model reads",
        needs_texts=not texts,
    )


def _difference(ours: TextOutput, theirs: TextOutput) -> str:
    """Return in words what differs between two outputs; empty where nothing does."""
    if ours.tokens != theirs.tokens:
        return _token_difference(ours.tokens, theirs.tokens)
    if ours.output != theirs.output:
        return f"{ours.output[:60]!r}, there {theirs.output[:60]!r}"
    left, right = torch.tensor(ours.numbers), torch.tensor(theirs.numbers)
    if left.shape != right.shape or not torch.allclose(left, right, rtol=0, atol=TOLERANCE):
        return "other numbers"
    return ""


def _token_difference(ours: Sequence[int], theirs: Sequence[int]) -> str:
    """Return the first tokens that differ, in words."""
    pairs = enumerate(zip_longest(ours, theirs))
    start = next(index for index, (own, other) in pairs if own != other)
    left, right = (list(tokens[start : start + 8]) for tokens in (ours, theirs))
    return f"tokens from number {start + 1} on {left}, there {right}"
