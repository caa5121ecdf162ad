"""The protocols of a model that writes one token at a time over a cache, its decoding state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

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
    """A model that finds the best next tokens in its step, without numbers for all of them."""

    vocab_size: int
    """Number of token ids."""

    def decode_top(self, ids: Tensor, state: S_contra, k: int) -> TopTokens:
        """Read the last token of each row, ``[batch]``; return the k best tokens of each."""
        ...


@runtime_checkable
class JoiningDecoder(Protocol[S_contra]):
    """A model whose rows may have begun at different times."""

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
