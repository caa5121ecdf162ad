"""What who runs the service asks: which model it is, whether it works, and its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regard.serving.responses import json_response
from regard.serving.running_model import RunningModel
from regard.version import installed_version

if TYPE_CHECKING:
    from regard.tasks.multi_label_classification.predictor import MultiLabelClassifier


def routes(model: RunningModel) -> list[Route]:
    """Return the routes of operation."""

    async def describe(_: Request) -> Response:
        return json_response(_description(model))

    async def healthz(_: Request) -> Response:
        is_alive = model.verb_service.is_alive
        return json_response({"status": "ok" if is_alive else "failed"}, 200 if is_alive else 503)

    async def readyz(_: Request) -> Response:
        is_ready = model.is_ready
        return json_response({"status": "ready" if is_ready else "busy"}, 200 if is_ready else 503)

    async def metrics(_: Request) -> Response:
        monitoring = model.monitoring
        return Response(monitoring.text(), media_type=monitoring.content_type)

    return [
        Route("/v1/model", describe),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
    ]


def _description(model: RunningModel) -> dict[str, object]:
    """Return what the service says of its model."""
    predictor, languages = model.predictor, model.languages
    description: dict[str, object] = {
        "id": model.id,
        "name": model.facts.name,
        "sha": model.facts.sha,
        "task": predictor.config.task,
        "verb": predictor.verb,
        "family": predictor.config.model.family,
        "num_parameters": predictor.model.num_parameters,
        "device": str(predictor.model.device),
        "version": installed_version(),
        "limits": msgspec.to_builtins(model.limits),
        "fields": [field.encode_name for field in msgspec.structs.fields(model.verb_service.body)],
    }
    if languages is not None:
        description["source_language"] = languages.source
        description["target_languages"] = list(languages.tags)
    if predictor.config.data.labels:
        description["labels"] = list(predictor.config.data.labels)
    if predictor.config.data.multi_label:
        description["threshold"] = cast("MultiLabelClassifier", predictor).threshold
    return description
