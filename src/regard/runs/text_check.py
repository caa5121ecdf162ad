"""Real texts through an exported model: the same tokens and outputs as those of the original.

A format is compared by a `Peer`, which reads the exported files by the library they are for. Two
models are equal if every text has the same tokens, the same output, and numbers within 1e-4.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from msgspec.structs import replace
from torch import Tensor

from regard.data.parallel_corpus import ParallelCorpus
from regard.data.question_rows import AnswerPairs, Questions
from regard.data.readers.plain_lines import require_plain_lines
from regard.data.readers.source import open_source
from regard.data.readers.text_lines import read_lines
from regard.data.rows import Rows
from regard.errors import DataError, RegardError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.models import Model
from regard.runs.text_outputs import (
    InputReader,
    TextOutput,
    TextReader,
    compared_search,
    model_outputs,
)
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.inspect import open_sources, sources_hash
from regard.tasks import task_of
from regard.tasks.sequence_to_sequence.predictor import TargetWriter

NUM_TEXTS = 200
_TOLERANCE = 1e-4
_NUM_SHOWN = 60  # characters of an output in a message


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
        limit: Its name of the maximum number of tokens of an output; empty where the export has the
            limits of the model.
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
    if peer.limit:
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


def largest_difference(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Return the largest difference of pairs of tensors, each pair of one shape ``[...]``."""
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))


def _source_with_texts(
    opened: TextReader, path: str | None, texts: Sequence[str]
) -> tuple[str, list[str]]:
    """Return the name of the source of texts, and those of them that are not blank."""
    if path is not None:
        return path, require_texts(path)
    if texts:
        return "texts", _with_words(texts)
    return "validation data", _with_words(validation_texts(opened.config))


def _with_words(texts: Iterable[str]) -> list[str]:
    """Return the texts that are not blank."""
    return [text for text in texts if text.strip()]


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
    longest = compared_search(opened).max_length
    unlimited = _with_search(opened, max_length_ratio=None, max_length=longest)
    return _count_different(outputs, model_outputs(unlimited, texts)[1])


def _count_equal_beams(folder: Path, opened: TextReader, peer: Peer, texts: Sequence[str]) -> int:
    """Return the number of texts with the same output of a model's own beam in both."""
    _, outputs = model_outputs(opened, texts)
    return len(texts) - _count_different(outputs, peer.outputs(folder, opened, texts))


def _count_different(own: Sequence[TextOutput], peer_outputs: Sequence[TextOutput]) -> int:
    """Return the number of texts whose outputs differ."""
    return sum(left.output != right.output for left, right in zip(own, peer_outputs, strict=True))


def _difference(ours: TextOutput, theirs: TextOutput) -> str:
    """Return in words what differs between two outputs; empty where nothing does."""
    if ours.tokens != theirs.tokens:
        return _token_difference(ours.tokens, theirs.tokens)
    if ours.output != theirs.output:
        return _output_difference(ours.output, theirs.output)
    left, right = torch.tensor(ours.numbers), torch.tensor(theirs.numbers)
    if left.shape != right.shape or not torch.allclose(left, right, rtol=0, atol=_TOLERANCE):
        return "other numbers"
    return ""


def _output_difference(ours: str, theirs: str) -> str:
    """Return two outputs in words, long ones from the first character that differs."""
    pairs = enumerate(zip_longest(ours, theirs))
    start = next(index for index, (own, other) in pairs if own != other)
    start = start if start >= _NUM_SHOWN else 0
    left, right = (output[start : start + _NUM_SHOWN] for output in (ours, theirs))
    equal = f"{start:,} equal characters, then " if start else ""
    return f"{equal}{left!r}, there {right!r}"


def _token_difference(ours: Sequence[int], theirs: Sequence[int]) -> str:
    """Return the first tokens that differ, in words."""
    pairs = enumerate(zip_longest(ours, theirs))
    start = next(index for index, (own, other) in pairs if own != other)
    left, right = (list(tokens[start : start + 8]) for tokens in (ours, theirs))
    return f"tokens from number {start + 1} on {left}, there {right}"
