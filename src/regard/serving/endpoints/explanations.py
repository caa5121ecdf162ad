"""The page at ``/``, what it asks for at ``/explain``, and ``POST /v1/explain``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from regard.data.languages import english_names
from regard.data.listing import list_first
from regard.explain.page import ServedModel, page_payload, served_page
from regard.serving.example_request import example_request
from regard.serving.responses import json_response
from regard.serving.running_model import ExplainBody, RunningModel

_NAMED_TAGS = 3
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


def routes(model: RunningModel) -> list[Route]:
    """Return the routes of the page and of explanations."""
    page = served_page(_facts(model))

    async def show(_: Request) -> Response:
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    async def explain(request: Request) -> Response:
        body = await model.read(request, ExplainBody, model.limits.max_explained)
        return json_response(await model.explain(request, body))

    async def explain_on_page(request: Request) -> Response:
        body = await model.read(request, ExplainBody, model.limits.max_explained)
        explanation = await model.explain(request, body)
        content = await model.in_thread(page_payload, explanation)
        return Response(content, headers=_PAGE_HEADERS, media_type="application/json")

    return [
        Route("/", show),
        Route("/explain", explain_on_page, methods=["POST"]),
        Route("/v1/explain", explain, methods=["POST"]),
    ]


def _facts(model: RunningModel) -> ServedModel:
    """Return what the page says of a model."""
    names, languages, predictor = english_names(), model.languages, model.predictor
    source = targets = ""
    if languages is not None:
        source = names.get(languages.source, languages.source)
        targets = ", ".join(
            f"{names.get(code, code)} {tag and f'({tag})'}".strip()
            for code, tag in languages.tags.items()
        )
        if languages.sources:
            source = f"{source}, or one of {len(languages.sources)} languages"
            tags = list_first(list(languages.tags.values()), _NAMED_TAGS)
            targets = f"the language of the tag before it, such as {tags}"
    return ServedModel(
        name=model.facts.name,
        sha=model.facts.sha,
        task=predictor.config.task,
        verb=predictor.verb,
        family=predictor.config.model.family,
        num_parameters=predictor.model.num_parameters,
        takes_text=model.explains_text,
        max_characters=model.limits.max_explained,
        source_language=source,
        target_language=targets,
        examples=list(model.examples),
        curl="" if model.explains_text else example_request(predictor),
    )
