"""Requests for the tokens that fit the masks of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from regard.serving.verbs.verb_service import Body, CheckClient, Texts, VerbService, as_list
from regard.tasks.masked_language_modeling.predictor import TextEncoder


class FillBody(Body, frozen=True, kw_only=True):
    """A request for the tokens in the place of masks.

    Args:
        text: One text or several, each with the vocabulary's mask, such as ``[MASK]``.
        num: Candidates for each mask.
    """

    text: Texts
    num: int = 5

    def inputs(self) -> Iterable[str]:
        """Return the texts."""
        return as_list(self.text)

    def num_tokens(self) -> int:
        """Return the number of candidates, which are tokens of the output."""
        return self.num


class TokenCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """A token that may be in place of a mask, and its probability, 0 to 1."""

    token: str
    probability: float


class FilledMasks(msgspec.Struct, frozen=True, kw_only=True):
    """The candidates for each mask of a text, in order, the most probable first."""

    masks: list[list[TokenCandidate]]


class FillService(VerbService[FillBody]):
    """Fills the masks of texts, each request in its own thread.

    Args:
        encoder: The model, which has a head for masked tokens.
    """

    body = FillBody

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder

    def outputs(self, body: FillBody, check_client: CheckClient) -> Sequence[FilledMasks]:
        """Fill the masks of each text."""
        outputs = []
        for text in as_list(body.text):
            check_client()
            masks = [
                [TokenCandidate(token=token, probability=value) for token, value in candidates]
                for candidates in self.encoder.fill(text, num=body.num)
            ]
            outputs.append(FilledMasks(masks=masks))
        return outputs
