"""``POST /v1/fill``: the tokens that fit the masks of texts, where an encoder predicts them."""

from __future__ import annotations

from time import monotonic

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regard.serving.responses import json_response
from regard.serving.running_model import RunningModel
from regard.serving.verbs.masked_tokens import FillBody, FillService
from regard.tasks.masked_language_modeling.predictor import TextEncoder


def routes(model: RunningModel) -> list[Route]:
    """Return the route for an encoder with a head for masked tokens; none for another model."""
    encoder = model.predictor
    if not isinstance(encoder, TextEncoder) or encoder.model.head is None:
        return []
    service = FillService(encoder)

    async def fill(request: Request) -> Response:
        start = monotonic()
        body = await model.read(request, FillBody)
        outputs = await model.compute(request, body, service)
        ms = round(1000 * (monotonic() - start))
        return json_response({"outputs": outputs, "model": model.id, "ms": ms})

    return [Route("/v1/fill", fill, methods=["POST"])]
