"""Requests for continuations of a text, whole or while they are written."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable, Sequence

from regard.errors import ConfigError
from regard.serving.verbs.verb_service import Body, CheckClient, Texts, VerbService, as_list
from regard.tasks.language_modeling.predictor import (
    Generation,
    SamplingOptions,
    StreamEnd,
    TextGenerator,
)


class GenerateBody(Body, frozen=True, kw_only=True):
    """A request for continuations; see `SamplingOptions`.

    Args:
        text: One text to continue, or several; an empty one begins a text.
        num: Continuations of each.
        stream: Whether the pieces of the one continuation are sent as they are written, as
            server-sent events.
    """

    text: Texts = ""
    num: int = 1
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    stop: str | None = None
    seed: int | None = None
    stream: bool = False

    def inputs(self) -> Iterable[str]:
        """Return the texts."""
        return as_list(self.text)

    def num_hypotheses(self) -> int:
        """Return how many continuations of a text there are."""
        return self.num

    def num_tokens(self) -> int:
        """Return the limit of a continuation."""
        return self.max_tokens or 0

    def sampling(self) -> SamplingOptions:
        """Return how the continuations are sampled."""
        return SamplingOptions(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            stop=self.stop,
            seed=self.seed,
        )


class GenerateService(VerbService[GenerateBody]):
    """Continues texts for many requests, as rows of one batch.

    Args:
        generator: The model.
    """

    body = GenerateBody

    def __init__(self, generator: TextGenerator) -> None:
        self.generator, self.worker = generator, generator.share_sampling()

    def outputs(self, body: GenerateBody, check_client: CheckClient) -> Sequence[Generation]:
        """Continue texts, those of the first first; before each token look whether one waits."""
        generator = copy.copy(self.generator)
        generator.on_token = check_client
        outputs: list[Generation] = []
        for text in as_list(body.text):
            generations = generator.generate(text, num=body.num, **body.sampling())
            outputs += [generations] if body.num == 1 else generations
        return outputs

    def pieces(self, body: GenerateBody) -> Generator[str, None, StreamEnd]:
        """Return the pieces of a continuation, as they are written.

        Raises:
            ConfigError: There are several.
        """
        if body.num != 1 or not isinstance(body.text, str):
            raise ConfigError("`stream`: one continuation of one text can be sent in pieces.")
        return self.generator.stream(body.text, **body.sampling())
