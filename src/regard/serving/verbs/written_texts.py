"""Requests for texts that an encoder-decoder writes: translations and summaries."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Literal, TypeAlias, TypeVar

import msgspec

from regard.serving.shared_weights import with_shared_weights
from regard.serving.verbs.verb_service import Body, CheckClient, Texts, VerbService, as_list
from regard.tasks.sequence_to_sequence.predictor import Candidate, SearchOptions, TargetWriter
from regard.tasks.summarization.predictor import Summarizer, Summary
from regard.tasks.translation.predictor import Translator

Flag: TypeAlias = Literal["empty", "copied", "incomplete", "truncated", "unknown_tag"]
Link: TypeAlias = tuple[int, int, float]
"""Word of the source, word of the output, both from 0, and the weight of attention, 0 to 1."""


class _SearchBody(Body, frozen=True, kw_only=True):
    """Texts, and how outputs for them are searched for; see `SearchOptions`."""

    text: Texts
    beam: int | None = None
    nbest: int = 1
    length_penalty: float | None = None
    min_length: int | None = None
    max_length: int | None = None

    def inputs(self) -> Iterable[str]:
        """Return the texts."""
        return as_list(self.text)

    def num_hypotheses(self) -> int:
        """Return the beam."""
        return self.beam or 1

    def num_tokens(self) -> int:
        """Return the larger limit of an output."""
        return max(self.max_length or 0, self.min_length or 0)

    def search(self) -> SearchOptions:
        """Return the options of the search."""
        return SearchOptions(
            beam=self.beam,
            nbest=self.nbest,
            length_penalty=self.length_penalty,
            min_length=self.min_length,
            max_length=self.max_length,
        )


class TranslateBody(_SearchBody, frozen=True, kw_only=True):
    """A request for translations.

    Args:
        align: Whether outputs say which words of the source their words come from.
        lang: Languages such as ``en-de``, or the one that is written, of a model of several; empty
            reads them in the texts.
    """

    align: bool = False
    lang: str = ""


class SummarizeBody(_SearchBody, frozen=True, kw_only=True):
    """A request for summaries."""


class WrittenText(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An output for a text.

    Args:
        text: The output.
        score: Length-penalised log-probability in nats; higher is better.
        confidence: Geometric mean of the token probabilities, 0 to 1.
        flags: What to look at: ``empty`` where nothing is written, ``copied`` where the output is
            its source, ``incomplete`` where it was cut at the length limit, ``truncated`` where the
            end of the text was not read, ``unknown_tag`` where the text begins with a tag that the
            model does not have.
        truncated: Tokens of the text that were not read.
        alignment: Words of the output with the word of the source that each attended to most.
        alternatives: The next best outputs, best first.
    """

    text: str
    score: float
    confidence: float
    flags: list[Flag]
    truncated: int = 0
    alignment: list[Link] | None = None
    alternatives: list[WrittenText] = []


S = TypeVar("S", bound=_SearchBody)
W = TypeVar("W", bound=TargetWriter)


def for_client(writer: W, check_client: CheckClient) -> W:
    """Return the same model, which stops once nobody waits for what it writes."""
    writer = copy.copy(writer)
    writer.check_caller = check_client
    return writer


class _TextService(VerbService[S]):
    """Decodes for all requests together."""

    def __init__(self, writer: TargetWriter) -> None:
        self.worker = writer.share_decoding()


class TranslateService(_TextService[TranslateBody]):
    """Translates for many requests.

    Args:
        translator: The model.
    """

    body = TranslateBody

    def __init__(self, translator: Translator) -> None:
        super().__init__(translator)
        self.translator = translator
        # Attention is recorded on a model of its own, while the other one translates.
        self._aligner, self._aligning = with_shared_weights(translator), Lock()

    def outputs(self, body: TranslateBody, check_client: CheckClient) -> Sequence[WrittenText]:
        """Translate texts."""
        texts = as_list(body.text)
        translator = for_client(self.translator, check_client)
        translations = translator.translate_best(texts, lang=body.lang, **body.search())
        outputs: list[WrittenText] = []
        for text, candidates in zip(texts, translations, strict=True):
            check_client()  # alignments take a while, too
            written = [self._output(text, candidate, body) for candidate in candidates]
            outputs.append(_with_alternatives(written))
        return outputs

    def _output(self, text: str, translation: Candidate, body: TranslateBody) -> WrittenText:
        flags = _flags(text, translation)
        if self.translator.unknown_tag(text) is not None:
            flags.append("unknown_tag")
        links: list[Link] | None = None
        if body.align:
            with self._aligning:
                links = self._aligner.align(text, translation.text, lang=body.lang).links()
        return WrittenText(
            text=translation.text,
            score=translation.score,
            confidence=translation.confidence,
            flags=flags,
            alignment=links,
        )


class SummarizeService(_TextService[SummarizeBody]):
    """Summarizes for many requests.

    Args:
        summarizer: The model.
    """

    body = SummarizeBody

    def __init__(self, summarizer: Summarizer) -> None:
        super().__init__(summarizer)
        self.summarizer = summarizer

    def outputs(self, body: SummarizeBody, check_client: CheckClient) -> Sequence[WrittenText]:
        """Summarize documents."""
        texts = as_list(body.text)
        summarizer = for_client(self.summarizer, check_client)
        summaries = summarizer.summarize_best(texts, **body.search())
        return [
            _with_alternatives([_summary(text, summary) for summary in best])
            for text, best in zip(texts, summaries, strict=True)
        ]


def _summary(text: str, summary: Summary) -> WrittenText:
    flags = _flags(text, summary)
    if summary.truncated:
        flags.append("truncated")
    return WrittenText(
        text=summary.text,
        score=summary.score,
        confidence=summary.confidence,
        flags=flags,
        truncated=summary.truncated,
    )


def _with_alternatives(outputs: Sequence[WrittenText]) -> WrittenText:
    """Return the best output, which has the others."""
    best, *alternatives = outputs
    return msgspec.structs.replace(best, alternatives=alternatives)


def _flags(source: str, output: Candidate) -> list[Flag]:
    """Return what to look at in an output."""
    if not source.strip():
        return []
    flags: list[Flag] = []
    if not output.text.strip():
        flags.append("empty")
    elif output.text.split() == source.split():
        flags.append("copied")
    if not output.is_complete:
        flags.append("incomplete")
    return flags
