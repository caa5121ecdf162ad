"""OpenAI's API for models that continue texts or compute vectors.

``/v1/completions``, ``/v1/embeddings`` and ``/v1/models``, as of
https://platform.openai.com/docs/api-reference/completions: what speaks to such a server speaks to
this one. A field that would change the outputs, and that the model cannot obey, is refused.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regard.serving.piece_stream import PieceStream, begin_pieces
from regard.serving.problems import Problem, problem_of
from regard.serving.responses import EventStream, event, json_response, with_errors
from regard.serving.running_model import RunningModel
from regard.serving.verbs.continuations import GenerateBody, GenerateService
from regard.serving.verbs.vectors import EmbedBody, EmbedService, TextVector
from regard.serving.verbs.verb_service import Body, Texts, as_list
from regard.tasks.language_modeling.predictor import Generation, TextGenerator
from regard.tasks.masked_language_modeling.predictor import TextEncoder

_DEFAULT_TOKENS = 16  # of a completion, as in OpenAI's reference


class _StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stream has besides its pieces."""

    include_usage: bool = False
    include_obfuscation: bool = False


class _CompletionBody(Body, frozen=True, kw_only=True):
    """A request of OpenAI for completions; fields that have no use here must have their default."""

    model: str
    prompt: Texts = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    stop: Texts | None = None
    seed: int | None = None
    echo: bool | None = None
    user: str | None = None
    logprobs: int | None = None
    suffix: str | None = None
    best_of: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    def inputs(self) -> list[str]:
        """Return the prompts."""
        return as_list(self.prompt)

    def generate_body(self) -> GenerateBody:
        """Return the same request in our own words.

        Raises:
            Problem: A field cannot be obeyed.
        """
        neutral = {"presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {}, "suffix": ""}
        for name in (*neutral, "logprobs"):  # 0 asks for those of the tokens that are written
            if getattr(self, name) not in (None, neutral.get(name)):
                raise Problem(400, f"{name} is not supported.", hint="Leave it out.")
        num = 1 if self.n is None else self.n
        if self.best_of not in (None, num):
            raise Problem(400, f"best_of={self.best_of} is not supported: it is n, {num}.")
        stops = [] if self.stop is None else as_list(self.stop)
        if len(stops) > 1:
            raise Problem(
                400, f"{len(stops)} texts to stop at are not supported.", hint="Send one."
            )
        return GenerateBody(
            text=self.prompt,
            num=num,
            max_tokens=_DEFAULT_TOKENS if self.max_tokens is None else self.max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p,
            stop=stops[0] if stops else None,
            seed=self.seed,
        )


class _EmbeddingBody(Body, frozen=True, kw_only=True):
    """A request of OpenAI for vectors."""

    model: str
    input: Texts
    encoding_format: str = "float"
    dimensions: int | None = None
    user: str | None = None

    def inputs(self) -> list[str]:
        """Return the texts."""
        return as_list(self.input)


def routes(model: RunningModel) -> list[Route]:
    """Return the routes for a model that continues texts or computes vectors; else none."""
    entry = {
        "id": model.facts.name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "regard",
    }
    in_own_form = partial(with_errors, describe=_error, bad_requests=(422,))

    async def list_models(_: Request) -> Response:
        return json_response({"object": "list", "data": [entry]})

    async def complete(request: Request) -> Response | EventStream:
        body = await model.read(request, _CompletionBody)
        _check_name(model, body.model)
        return await _complete(model, request, body)

    async def embed(request: Request) -> Response:
        body = await model.read(request, _EmbeddingBody)
        _check_name(model, body.model)
        return await _embed(model, request, body)

    async def describe(request: Request) -> Response:
        _check_name(model, request.path_params["name"])
        return json_response(entry)

    async def chat(_: Request) -> Response:
        raise Problem(
            400,
            "the model continues a text, and does not chat.",
            hint="Send the text as `prompt` to /v1/completions.",
        )

    service = model.verb_service
    own: list[Route] = []
    if isinstance(service, GenerateService):
        own += [
            Route("/v1/completions", in_own_form(complete), methods=["POST"]),
            Route(
                "/v1/chat/completions",
                in_own_form(chat),
                methods=["POST"],
                include_in_schema=False,  # refused by name, since it is what clients ask first
            ),
        ]
    if isinstance(service, EmbedService):
        own.append(Route("/v1/embeddings", in_own_form(embed), methods=["POST"]))
    if not own:
        return []
    models = [
        Route("/v1/models", list_models),
        Route("/v1/models/{name}", in_own_form(describe), include_in_schema=False),
    ]
    return [*own, *models]


def _error(problem: Problem) -> dict[str, object]:
    """Return a problem in OpenAI's form."""
    is_own = problem.status >= 500
    return {
        "error": {
            "message": problem.sentence,
            "type": "server_error" if is_own else "invalid_request_error",
            "param": None,
            "code": "model_not_found" if problem.status == 404 else None,
        }
    }


def _error_event(problem: Problem) -> bytes:
    return event(_error(problem))


def _check_name(model: RunningModel, name: str) -> None:
    """Raise Problem where a request is for another model."""
    if name not in (model.facts.name, model.id):
        raise Problem(
            404, f"The model `{name}` does not exist: this service has {model.facts.name}."
        )


async def _complete(
    model: RunningModel, request: Request, body: _CompletionBody
) -> Response | EventStream:
    """Return completions, whole or in pieces."""
    generation = body.generate_body()
    if body.stream:
        if not isinstance(body.prompt, str) or generation.num != 1:
            raise Problem(400, "one completion of one prompt can be streamed.")
        pieces = await begin_pieces(model, generation)
        return pieces.answer(_events(model, body, pieces), _error_event)
    outputs: list[Generation] = await model.compute(request, generation)
    prompts = [prompt for prompt in body.inputs() for _ in range(generation.num)]
    choices = [
        _choice(
            (prompt if body.echo else "") + output.text,
            index,
            "stop" if output.is_complete else "length",
        )
        for index, (prompt, output) in enumerate(zip(prompts, outputs, strict=True))
    ]
    num_prompt = _count_tokens(model, body.inputs())
    num_written = sum(output.num_tokens for output in outputs)
    return json_response(
        {**_head(model), "choices": choices, "usage": _usage(num_prompt, num_written)}
    )


async def _events(
    model: RunningModel, body: _CompletionBody, pieces: PieceStream
) -> AsyncIterator[bytes]:
    """Yield an event for each piece, then why it ends, the number of tokens, and the end."""
    head = _head(model)
    if body.echo:
        yield event({**head, "choices": [_choice(str(body.prompt), 0, None)]})
    try:
        async for piece in pieces:
            yield event({**head, "choices": [_choice(piece, 0, None)]})
    except Exception as error:  # noqa: BLE001 - its status was sent before the first piece
        yield _error_event(problem_of(error))
        return
    model.count(body, num_inputs=1)
    assert pieces.end is not None
    reason = "stop" if pieces.end.is_complete else "length"
    yield event({**head, "choices": [_choice("", 0, reason)]})
    if body.stream_options is not None and body.stream_options.include_usage:
        usage = _usage(_count_tokens(model, body.inputs()), pieces.end.num_tokens)
        yield event({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _head(model: RunningModel) -> dict[str, object]:
    """Return what all answers with completions begin with."""
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model.facts.name,
    }


def _choice(text: str, index: int, reason: str | None) -> dict[str, object]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}


def _usage(num_prompt: int, num_written: int) -> dict[str, int]:
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_written,
        "total_tokens": num_prompt + num_written,
    }


def _count_tokens(model: RunningModel, texts: Sequence[str]) -> int:
    """Return the number of tokens of texts."""
    predictor = model.predictor
    assert isinstance(predictor, TextGenerator)
    return sum(len(predictor.tokenizer.encode_text(text)) for text in texts)


async def _embed(model: RunningModel, request: Request, body: _EmbeddingBody) -> Response:
    """Return vectors, as numbers or as the Base64 of their float32."""
    if body.dimensions is not None:
        raise Problem(400, "dimensions is not supported.", hint="Leave it out.")
    if body.encoding_format not in ("float", "base64"):
        raise Problem(400, f"encoding_format {body.encoding_format}: float or base64 is expected.")
    if not body.inputs():
        raise Problem(400, "input has no text.")
    outputs: list[TextVector] = await model.compute(request, EmbedBody(text=body.input))
    is_packed = body.encoding_format == "base64"
    data: list[dict[str, Any]] = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _packed(output.vector) if is_packed else output.vector,
        }
        for index, output in enumerate(outputs)
    ]
    encoder = model.predictor
    assert isinstance(encoder, TextEncoder)
    num_tokens = sum(map(len, encoder.tokenizer.encode(body.inputs())))
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return json_response(
        {"object": "list", "data": data, "model": model.facts.name, "usage": usage}
    )


def _packed(vector: list[float]) -> str:
    """Return a vector, ``[dim]``, as the Base64 of little-endian float32."""
    return base64.b64encode(np.array(vector, dtype="<f4").tobytes()).decode()
