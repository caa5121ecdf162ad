"""The pieces of a continuation, which are sent while it is written."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import ExitStack

from regard.serving.limits import check_outputs
from regard.serving.problems import Problem
from regard.serving.responses import EventStream
from regard.serving.running_model import RunningModel
from regard.serving.verbs.continuations import GenerateBody, GenerateService
from regard.tasks.language_modeling.predictor import StreamEnd

Pieces = Generator[str, None, StreamEnd]


class PieceStream:
    """The pieces of a continuation, of which the first is there.

    Args:
        model: What writes it.
        first: The first piece, or the end.
        rest: The others.
        admission: What admits the request, left at the end.
    """

    def __init__(
        self, model: RunningModel, first: str | StreamEnd, rest: Pieces, admission: ExitStack
    ) -> None:
        self._model, self._first, self._rest, self._admission = model, first, rest, admission
        self.end: StreamEnd | None = None
        """How it ended, after the last piece."""

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield the pieces that are not empty."""
        piece = self._first
        while isinstance(piece, str):
            if piece:
                yield piece
            piece = await self._model.in_thread(_next_piece, self._rest)
        self.end = piece

    def answer(
        self, events: AsyncIterator[bytes], error_event: Callable[[Problem], bytes]
    ) -> EventStream:
        """Return the answer that consists of events made of these pieces; see `EventStream`."""
        return EventStream(events, self._admission, error_event)


async def begin_pieces(model: RunningModel, body: GenerateBody) -> PieceStream:
    """Return the pieces of a continuation once the first is there: a wrong option is an error.

    Args:
        model: What writes it.
        body: The request.

    Raises:
        Problem: There are too many requests, or it asks for too much.
        RegardError: An option cannot be used.
    """
    service = model.verb_service
    assert isinstance(service, GenerateService)
    check_outputs(body, model.limits)
    with ExitStack() as stack:
        stack.enter_context(model.outputs.admit())
        pieces = service.pieces(body)
        stack.callback(_close, pieces)
        first = await model.in_thread(_next_piece, pieces)
        return PieceStream(model, first, pieces, stack.pop_all())


def _close(pieces: Pieces) -> None:
    """End a continuation, unless a thread is at it still, since the server waits no longer."""
    if inspect.getgeneratorstate(pieces) != inspect.GEN_RUNNING:
        pieces.close()


def _next_piece(pieces: Pieces) -> str | StreamEnd:
    """Return the next piece, or the end."""
    try:
        return next(pieces)
    except StopIteration as end:
        return end.value
