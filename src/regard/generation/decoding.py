"""The protocols of a model that writes one token at a time over a cache, its decoding state."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from regard.generation.top_tokens import TopTokens


class DecodingState(Protocol):
    """What a model carries from token to token, such as the keys and values of each layer."""

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        ...


S = TypeVar("S", bound=DecodingState)
S_contra = TypeVar("S_contra", bound=DecodingState, contravariant=True)


class Seq2SeqDecoder(Protocol[S]):
    """A model that writes a target for a source; every `EncoderDecoder` is one."""

    def init_state(self, source_ids: Tensor) -> S:
        """Encode the source, ``[batch, source_length]``; return the state of ``batch`` rows."""
        ...

    def decode_step(self, ids: Tensor, state: S) -> Tensor:
        """Read the last token of each row, ``[batch]``; return logits ``[batch, vocab]``."""
        ...


@runtime_checkable
class TopDecoder(Protocol[S_contra]):
    """A model that finds the best next tokens in its step, without numbers for all of them.

    It reads tokens, and its state rows by index, in main memory; it moves no keys to reorder rows.
    """

    vocab_size: int
    """Number of token ids."""

    def decode_top(self, ids: Tensor, state: S_contra, k: int) -> TopTokens:
        """Read the last token of each row, ``[batch]``; return the k best tokens of each."""
        ...


class Beams(NamedTuple):
    """The sentences of a beam search; its rows are ``sentence * beam + hypothesis``.

    Args:
        scores: Log-probabilities, float32 ``[sentences, beam]``; updated in place.
        tokens: Tokens so far with the begin, ``[sentences, beam, room]``; updated in place.
        lengths: Tokens of each sentence with the begin, ``[sentences]``; updated in place.
        limits: Maximum number of tokens of each output, ``[sentences]``.
        bars: Score that a hypothesis must exceed to be among the outputs, float64 ``[sentences]``.
        divisors: What log-probabilities are divided by at the limits, float64 ``[sentences]``.
        by_length: The same after 1, 2, ... tokens, float64 ``[room]``, where hypotheses are judged
            by their present length; None where they are judged by what they may become.
        end_id: Token that ends an output.
        closes_at_limit: Whether hypotheses at the limit of their sentence are outputs.
        min_length: Tokens with the begin before which none ends.
    """

    scores: NDArray[np.float32]
    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    limits: NDArray[np.int64]
    bars: NDArray[np.float64]
    divisors: NDArray[np.float64]
    by_length: NDArray[np.float64] | None
    end_id: int
    closes_at_limit: bool
    min_length: int


class Candidates(NamedTuple):
    """What may continue the hypotheses of each sentence, best first, ``[sentences, 2 * beam]``.

    Args:
        scores: Log-probabilities.
        origins: The hypothesis that each continues.
        tokens: The token that it writes.
    """

    scores: NDArray[np.float32]
    origins: NDArray[np.int64]
    tokens: NDArray[np.int64]


@runtime_checkable
class SearchingDecoder(Protocol[S_contra]):
    """A model that takes steps of a search by itself, where few rules leave tokens out."""

    def search(
        self, beams: Beams, state: S_contra, most: int
    ) -> Candidates | NDArray[np.int64] | None:
        """Take steps until an output closes or a sentence is done; a beam of 1 is greedy.

        Args:
            beams: The sentences.
            state: Updated in place.
            most: Maximum number of steps, for which the tokens have room.

        Returns:
            The candidates of the last step where outputs close: nothing was kept of them.  Where
            sentences are done, the hypotheses that each continues, ``[sentences, beam]``: their
            rows are not in this order yet.  None after `most` steps.

        Raises:
            WeightsError: The model gives NaN.
        """
        ...


@runtime_checkable
class JoiningDecoder(Protocol[S_contra]):
    """A model whose rows may have begun at different times."""

    batch_factor: int
    """How many times as large as usual the batches are that it decodes at once."""

    def add_sources(self, source_ids: Tensor, state: S_contra) -> None:
        """Encode more sources, ``[batch, source_length]``, whose rows come last in the state."""
        ...


class CausalDecoder(Protocol[S]):
    """A model that continues a text; every `Decoder` is one."""

    def init_state(self) -> S:
        """Return the state before the first token."""
        ...

    def decode_step(self, ids: Tensor, state: S) -> Tensor:
        """Read the next tokens of each row, ``[batch, new]``; return logits ``[batch, vocab]``."""
        ...


@runtime_checkable
class JoiningCausalDecoder(Protocol[S_contra]):
    """A model that continues texts of different lengths together."""

    def join(self, state: S_contra, other: S_contra) -> None:
        """Add the rows of another state, which come last in the first."""
        ...
