"""``POST /v1/VERB``: the outputs of a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regard.serving.piece_stream import PieceStream, begin_pieces
from regard.serving.problems import problem_of
from regard.serving.responses import EventStream, error_event, event, json_response
from regard.serving.running_model import RunningModel
from regard.serving.verbs.continuations import GenerateBody


def routes(model: RunningModel) -> list[Route]:
    """Return the route of the verb that uses a model."""

    async def answer(request: Request) -> Response | EventStream:
        start = monotonic()
        body = await model.read_inputs(request)
        if isinstance(body, GenerateBody) and body.stream:
            pieces = await begin_pieces(model, body)
            return pieces.answer(_events(model, body, pieces), error_event)
        outputs = await model.compute(request, body)
        ms = round(1000 * (monotonic() - start))
        return json_response({"outputs": outputs, "model": model.id, "ms": ms})

    return [Route(f"/v1/{model.predictor.verb}", answer, methods=["POST"])]


async def _events(
    model: RunningModel, body: GenerateBody, pieces: PieceStream
) -> AsyncIterator[bytes]:
    """Yield an event for each piece, and a last one without a text."""
    try:
        async for piece in pieces:
            yield event({"text": piece})
    except Exception as error:  # noqa: BLE001 - its status was sent before the first piece
        yield error_event(problem_of(error))
        return
    model.count(body, num_inputs=1)
    assert pieces.end is not None
    yield event({**pieces.end._asdict(), "model": model.id}, "done")
