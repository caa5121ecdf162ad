"""A model that answers requests: what computes for them, and what they may ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from threading import Event, Lock
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from msgspec.structs import replace
from starlette.requests import Request

from regard.explain.diagram import draw_diagram
from regard.explain.document import Explanation
from regard.explain.explanation import ModelFacts, explain
from regard.serving.finite_numbers import require_finite
from regard.serving.limits import Admission, ServiceLimits, check_length, check_outputs
from regard.serving.monitoring import Monitoring
from regard.serving.problems import CLIENT_LEFT, Problem, decode_body
from regard.serving.request_bodies import content_type, require_json, require_plain
from regard.serving.shared_weights import with_shared_weights
from regard.serving.verbs import VERB_SERVICES
from regard.serving.verbs.labels import ClassifyFilesService
from regard.serving.verbs.verb_service import Body, CheckClient, VerbService
from regard.tasks import Predictor
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.tasks.translation.languages import languages_of
from regard.tasks.translation.predictor import Translator

R = TypeVar("R")
B = TypeVar("B", bound=Body)
_MEGABYTE = 1024**2
_EXPLAINING_MEMORY = 512 * _MEGABYTE
_SECONDS_BETWEEN_LOOKS = 0.5  # whether who asked is still there


def explains_text(predictor: Predictor) -> bool:
    """Return whether a model can be asked to explain its output for a text; not for a vector."""
    return not isinstance(predictor, InputClassifier | Forecaster | TextEncoder)


class ExplainBody(Body, frozen=True, kw_only=True):
    """A request for an explanation; see `regard.explain.explain`.

    Args:
        text: The text, or the question.
        context: The text that a question is asked of.
        target: The output that is explained; None is the model's own.
        contrast: Another output that it is compared with.
        methods: Names of methods; None takes all that fit the model.
    """

    text: str
    context: str | None = None
    target: str | None = None
    contrast: str | None = None
    methods: list[str] | None = None

    def inputs(self) -> Sequence[str]:
        """Return all texts."""
        return [text for text in (self.text, self.context, self.target, self.contrast) if text]


class _NobodyThereError(Exception):
    """Who asked has left."""


class RunningModel:
    """A model that answers requests.

    Args:
        predictor: The model.
        facts: Its name and the hash of its weights.
        limits: How much it takes.
        languages: Codes such as ``en-de``, for a translator; empty takes those of its training.
        examples: Texts that the page proposes.
    """

    def __init__(
        self,
        predictor: Predictor,
        facts: ModelFacts,
        limits: ServiceLimits,
        *,
        languages: str = "",
        examples: Sequence[str] = (),
    ) -> None:
        self.predictor, self.facts, self.limits = predictor, facts, limits
        self.examples = examples
        is_translator = isinstance(predictor, Translator)
        self.languages = languages_of(predictor, languages) if is_translator else None
        self.verb_service: VerbService[Any] = VERB_SERVICES[predictor.verb](predictor)
        self.outputs = Admission(limits.max_requests)
        """Requests for outputs."""
        self.explanations = Admission(limits.max_explanations)
        """Requests for explanations."""
        self.monitoring = Monitoring(
            model=self.id,
            task=predictor.config.task,
            outputs=self.outputs,
            explanations=self.explanations,
        )
        self._threads = anyio.CapacityLimiter(limits.max_requests + limits.max_explanations)
        self._num_computing, self._counting = 0, Lock()
        self._explained, self._explaining = with_shared_weights(predictor), Lock()

    @property
    def id(self) -> str:
        """Its name, and which weights it has."""
        return f"{self.facts.name}@{self.facts.sha}" if self.facts.sha else self.facts.name

    @property
    def takes_text(self) -> bool:
        """Whether it reads texts."""
        return not isinstance(self.predictor, InputClassifier | Forecaster)

    @property
    def explains_text(self) -> bool:
        """Whether it can be asked to explain its output for a text."""
        return explains_text(self.predictor)

    @property
    def is_ready(self) -> bool:
        """Whether the next request is answered."""
        return self.verb_service.is_alive and not self.outputs.is_full

    async def read(self, request: Request, body: type[B], most: int | None = None) -> B:
        """Read a request.

        Args:
            request: The request.
            body: What it says.
            most: Most characters of its texts; None is the limit for outputs.

        Returns:
            Its body.

        Raises:
            Problem: It is too long, or says something else.
        """
        require_json(request)
        return self.decode(await self.read_bytes(request), body, most)

    def decode(self, content: bytes, body: type[B], most: int | None = None) -> B:
        """Decode the JSON of a request; see `read`."""
        decoded = decode_body(content, body)
        check_length(decoded.inputs(), self.limits.max_characters if most is None else most)
        return decoded

    async def read_inputs(self, request: Request) -> Body:
        """Read a request for outputs; one for the label of a file may be the file itself.

        Returns:
            Its body.

        Raises:
            Problem: It is too long, or says something else.
        """
        service = self.verb_service
        if isinstance(service, ClassifyFilesService):
            kind, own_kind = content_type(request), service.file_type.partition("/")[0]
            if kind.startswith(f"{own_kind}/") or kind == "application/octet-stream":
                return service.body_of(await self.read_bytes(request))
            require_json(request, or_file=service.file_type)
        return await self.read(request, service.body)

    async def read_bytes(self, request: Request) -> bytes:
        """Read the body of a request; raise Problem where it is too long, or compressed."""
        require_plain(request)
        most = self.limits.max_bytes(takes_files=not self.takes_text)
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > most:
                raise Problem(
                    413,
                    f"more than {most:,} bytes, the limit of a body.",
                    hint="Send less at a time.",
                )
        return bytes(content)

    async def in_thread(self, compute: Callable[..., R], *arguments: Any) -> R:
        """Compute something in a thread, while the service answers others."""

        def count_and_compute() -> R:
            with self._counting:
                self._num_computing += 1
            try:
                return compute(*arguments)
            finally:
                with self._counting:
                    self._num_computing -= 1

        return await anyio.to_thread.run_sync(count_and_compute, limiter=self._threads)

    @property
    def is_computing(self) -> bool:
        """Whether a thread computes, also for a request that nobody waits for any more."""
        return self._num_computing > 0

    async def compute(
        self, request: Request, body: Body, service: VerbService[Any] | None = None
    ) -> list[Any]:
        """Return the output for each input of a request.

        Args:
            request: The request.
            body: What it says.
            service: Computes the outputs; None is that of the model's verb.

        Raises:
            Problem: There are too many requests, it asks for too much, or the outputs are NaN.
            RegardError: An option or an input cannot be used.
        """
        check_outputs(body, self.limits)
        with self.outputs.admit():
            compute = partial(_outputs, service or self.verb_service, body)
            outputs = await self._while_there(request, compute)
        self.count(body, len(outputs))
        return outputs

    async def _while_there(self, request: Request, compute: Callable[[CheckClient], R]) -> R:
        """Compute something in a thread, unless who asks leaves.

        Args:
            request: The request.
            compute: Calls now and then what it is given, which raises once nobody is there.

        Returns:
            What it computes.

        Raises:
            Problem: Nobody is there.
        """
        gone = Event()

        def check_client() -> None:
            if gone.is_set():
                raise _NobodyThereError

        async def watch() -> None:
            while not gone.is_set():
                await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
                if await request.is_disconnected():
                    gone.set()

        watching = asyncio.create_task(watch())
        try:
            return await self.in_thread(compute, check_client)
        except _NobodyThereError:
            raise Problem(CLIENT_LEFT, "nobody waits for the answer.") from None
        finally:
            gone.set()
            watching.cancel()

    def count(self, body: Body, num_inputs: int) -> None:
        """Count what was computed for a request."""
        self.monitoring.count_inputs(num_inputs, sum(map(len, body.inputs())))

    @cached_property
    def _picture(self) -> str:
        """The architecture, which takes as long to draw as a text to explain."""
        return draw_diagram(self._explained.model, "svg")

    async def explain(self, request: Request, body: ExplainBody) -> Explanation:
        """Return an explanation, unless who asked for it leaves.

        Raises:
            Problem: There are too many requests, the model reads no texts, or nobody is there.
            RegardError: An option or the text cannot be used.
        """
        if not self.explains_text:
            task = self.predictor.config.task
            raise Problem(422, f"a model for {task} has no output for a text that is explained.")

        def compute(check_client: CheckClient) -> Explanation:
            with self._explaining:
                check_client()
                explanation = explain(
                    self._explained,
                    body.text,
                    context=body.context,
                    output=body.target,
                    contrast=body.contrast,
                    methods=body.methods,
                    memory=_EXPLAINING_MEMORY,
                    facts=self.facts,
                    draws_model=False,
                    on_progress=lambda *_: check_client(),
                )
                drawn = replace(explanation.model, picture=self._picture)
                return replace(explanation, model=drawn)

        with self.explanations.admit():
            explanation = await self._while_there(request, compute)
        self.count(body, num_inputs=1)
        return explanation

    def close(self) -> None:
        """Finish what is being computed."""
        self.verb_service.close()


def _outputs(service: VerbService[Any], body: Body, check_client: CheckClient) -> list[Any]:
    outputs = list(service.outputs(body, check_client))
    require_finite(outputs)
    return outputs
