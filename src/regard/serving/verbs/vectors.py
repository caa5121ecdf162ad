"""Requests for the vectors of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from regard.serving.batched_calls import BatchedCalls
from regard.serving.verbs.verb_service import Body, CheckClient, Texts, VerbService, as_list
from regard.tasks.masked_language_modeling.predictor import TextEncoder


class EmbedBody(Body, frozen=True, kw_only=True):
    """A request for vectors, of one text or several."""

    text: Texts

    def inputs(self) -> Iterable[str]:
        """Return the texts."""
        return as_list(self.text)


class TextVector(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of a text, ``[dim]``."""

    vector: list[float]


class EmbedService(VerbService[EmbedBody]):
    """Computes vectors for many requests, in batches.

    Args:
        encoder: The model.
    """

    body = EmbedBody

    def __init__(self, encoder: TextEncoder) -> None:
        def embed(texts: list[str]) -> list[TextVector]:
            return [TextVector(vector=vector) for vector in encoder.embed(texts).float().tolist()]

        self._embed = self.worker = BatchedCalls(embed, len)

    def outputs(self, body: EmbedBody, check_client: CheckClient) -> Sequence[TextVector]:
        """Compute vectors."""
        return self._embed(as_list(body.text), check_client)
