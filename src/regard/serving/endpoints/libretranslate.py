"""LibreTranslate's API for a translator: ``/translate``, ``/languages`` and ``/detect``.

https://docs.libretranslate.com: what speaks to such a server speaks to this one. Keys are not asked
for, and ``html`` is refused, as the model translates text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regard.data.language_codes import find_language, names_of
from regard.data.languages import english_names, guess_language
from regard.data.listing import list_first
from regard.errors import ConfigError
from regard.serving.problems import Problem
from regard.serving.request_bodies import content_type
from regard.serving.responses import json_response, with_errors
from regard.serving.running_model import RunningModel
from regard.serving.verbs.verb_service import Body, Texts, as_list
from regard.serving.verbs.written_texts import TranslateBody, WrittenText
from regard.tasks.translation.languages import Languages

_FORM = "application/x-www-form-urlencoded"
_NAMED_CODES = 20  # in a message about another one
_CERTAIN, _UNCERTAIN = 100.0, 0.0  # confidence, in percent, of a language that is guessed or not


class _TranslateQuery(Body, frozen=True, kw_only=True):
    """A request of LibreTranslate for translations."""

    q: Texts
    source: str
    target: str
    format: str = "text"
    alternatives: int = 0
    api_key: str | None = None

    def inputs(self) -> list[str]:
        """Return the texts."""
        return as_list(self.q)


class _DetectQuery(Body, frozen=True, kw_only=True):
    """A request of LibreTranslate for the language of a text."""

    q: str
    api_key: str | None = None

    def inputs(self) -> list[str]:
        """Return the text."""
        return [self.q]


def routes(model: RunningModel) -> list[Route]:
    """Return the routes for a translator whose languages are known; none for another model."""
    languages = model.languages
    if languages is None:
        return []
    in_own_form = partial(
        with_errors,
        describe=lambda problem: {"error": problem.sentence},
        bad_requests=(415, 422),
    )

    async def translate(request: Request) -> Response:
        query = await _read(model, request, _TranslateQuery)
        texts = [_tagged(query, text, languages) for text in query.inputs()]
        if query.alternatives < 0:
            raise Problem(400, "alternatives must be 0 or more.")
        nbest = 1 + query.alternatives
        is_wider = nbest > model.predictor.config.search.beam
        body = TranslateBody(text=texts, nbest=nbest, beam=nbest if is_wider else None)
        outputs = await model.compute(request, body)
        return json_response(_answer(query, outputs, languages))

    async def list_languages(_: Request) -> Response:
        return json_response(_list(languages))

    async def detect(request: Request) -> Response:
        query = await _read(model, request, _DetectQuery)
        return json_response([_detected(query.q, languages)])

    return [
        Route("/translate", in_own_form(translate), methods=["POST"]),
        Route("/languages", list_languages),
        Route("/detect", in_own_form(detect), methods=["POST"]),
    ]


async def _read(model: RunningModel, request: Request, query: type[Body]) -> Any:
    """Read a query, as JSON or as a form; raise Problem where it says something else."""
    if content_type(request) != _FORM:
        return await model.read(request, query)
    content = await model.read_bytes(request)
    try:
        values = parse_qs(content.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Problem(400, "the form is not in UTF-8.") from None
    fields: dict[str, Any] = {
        name: texts if len(texts) > 1 else texts[0] for name, texts in values.items()
    }
    if "alternatives" in fields and str(fields["alternatives"]).isdecimal():
        fields["alternatives"] = int(fields["alternatives"])
    return model.decode(msgspec.json.encode(fields), query)


def _tagged(query: _TranslateQuery, text: str, languages: Languages) -> str:
    """Return a text after the tag of the languages that are asked for.

    Raises:
        Problem: The model does not have them.
    """
    read, is_auto = languages.sources or (languages.source,), query.source == "auto"
    source = _find(query.source, read, "reads") if not is_auto else languages.source
    target = _find(query.target, list(languages.tags), "writes")
    if query.format != "text":
        raise Problem(400, f"format {query.format} is not supported: this model translates text.")
    tag = languages.tags[target]
    if languages.sources:
        source = _detect(text, languages) if is_auto else source
        tag = f"<{source}-{target}>"
    return f"{tag} {text}" if tag and text.strip() else text


def _find(code: str, codes: Sequence[str], verb: str) -> str:
    """Return the code of a language among those of the model; raise Problem where it has none."""
    if code in codes:
        return code
    try:
        return find_language(code, codes)
    except ConfigError:
        supported = list_first(codes, _NAMED_CODES)
        raise Problem(400, f"{code} is not supported: this model {verb} {supported}.") from None


def _answer(
    query: _TranslateQuery, outputs: list[WrittenText], languages: Languages
) -> dict[str, object]:
    """Return translations in LibreTranslate's form: of one text not in a list."""
    is_one = isinstance(query.q, str)
    answer: dict[str, object] = {
        "translatedText": outputs[0].text if is_one else [output.text for output in outputs]
    }
    if query.source == "auto":
        detected = [_detected(text, languages) for text in query.inputs()]
        answer["detectedLanguage"] = detected[0] if is_one else detected
    if query.alternatives:
        alternatives = [[other.text for other in output.alternatives] for output in outputs]
        answer["alternatives"] = alternatives[0] if is_one else alternatives
    return answer


def _detect(text: str, languages: Languages) -> str:
    """Return the language that a text is read as: that which is detected, if the model reads it."""
    guess = guess_language([text]) if text.strip() else None
    return guess if guess in languages.sources else languages.source


def _detected(text: str, languages: Languages) -> dict[str, object]:
    """Return the language of a text; where it cannot be guessed, that which the model reads."""
    guess = guess_language([text]) if text.strip() else None
    if guess is None or (languages.sources and guess not in languages.sources):
        return {"confidence": _UNCERTAIN, "language": languages.source}
    return {"confidence": _CERTAIN, "language": guess}


def _list(languages: Languages) -> list[dict[str, object]]:
    """Return all languages, and which of them each is translated to."""
    read = languages.sources or (languages.source,)
    codes = dict.fromkeys([*read, *languages.tags])
    names = english_names() | names_of(codes)
    targets = {code: list(languages.tags) for code in read}
    return [
        {"code": code, "name": names.get(code, code), "targets": targets.get(code, [])}
        for code in codes
    ]
