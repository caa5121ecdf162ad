"""What a model does for requests: one file a kind of output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regard.lazy import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from regard.serving.verbs.verb_service import VerbService

VERB_SERVICES: Registry[Callable[[Any], VerbService[Any]]] = Registry(
    {
        "translate": "regard.serving.verbs.written_texts.TranslateService",
        "summarize": "regard.serving.verbs.written_texts.SummarizeService",
        "classify": "regard.serving.verbs.labels.classify_service",
        "answer": "regard.serving.verbs.answers.answer_service",
        "generate": "regard.serving.verbs.continuations.GenerateService",
        "forecast": "regard.serving.verbs.forecasts.ForecastService",
        "embed": "regard.serving.verbs.vectors.EmbedService",
    }
)
"""By the verb of a predictor: what makes its service."""
