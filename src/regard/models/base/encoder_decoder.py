"""The base of encoder-decoders: all that training, search and alignment use of them.

A family writes `hidden_states` (all target positions at once, for training) and `init_state` with
`next_logits` (a few tokens after those before, for generation), which must agree.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, cast

from torch import Tensor, nn

from regard.layers.cache import LayerCache, is_identity, shared_sources
from regard.models.base.text_model import PAD_ID, TextModel, token_table

if TYPE_CHECKING:
    from regard.layers.multi_head_attention import CrossAttention
    from regard.layers.pointer_generator import CopyDistribution, CopySource, PointerGenerator
    from regard.layers.seq2seq_attention import Seq2SeqAttention

Tied = Literal["all", "target", "none"]
S = TypeVar("S")
START_ID = 1


class EncoderDecoder(TextModel, Generic[S]):
    """A model that reads a source and writes a target; `S` is its state between two tokens.

    Source and target share one vocabulary.

    Args:
        vocab_size: Number of token ids, 1 or more.
        dim: Size of its hidden states.
    """

    pad_id: int = PAD_ID
    """Token that fills up the rows of a source."""

    start_id: int = START_ID
    """Token that begins a target."""

    has_separate_encoder: bool = False
    """Whether the encoder is a model of its own, with its own token that pads sources."""

    source_memory: Mapping[str, tuple[str, ...]] = {"keys, values": ("states",)}
    """What attention over the source reads: sums of the encoder's states and embeddings."""

    def __init__(self, vocab_size: int, *, dim: int) -> None:
        super().__init__(vocab_size, dim=dim)
        self.copy_head: PointerGenerator | None = None
        """Copies tokens of the source; None where the model does not copy."""

    @property
    def output_name(self) -> str:
        """Logits of tokens, or the logarithms of their probabilities where the model copies."""
        name = super().output_name
        return name if self.copy_head is None else name.replace("logits", "log-probabilities")

    @property
    def source_dim(self) -> int:
        """Size of the states on the source side."""
        return self.dim

    def forward(
        self, source_ids: Tensor, target_ids: Tensor, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Compute the logits of every next target token.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with `pad_id`.
            target_ids: Decoder inputs, ``[batch, length]``, beginning with `start_id`; they are
                not shifted inside, and padding on the right changes nothing before it.
            lengths: Tokens of each source, ``[batch]``; None finds them by `pad_id`.

        Returns:
            ``[batch, length, vocab]``; log-probabilities where the model copies.
        """
        hidden, copies = self.states_and_copies(source_ids, target_ids, lengths=lengths)
        logits = self.logits(hidden)
        return logits if copies is None else copies.mix(logits)

    @abstractmethod
    def hidden_states(
        self, source_ids: Tensor, target_ids: Tensor, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Compute the decoder's last hidden states, ``[batch, length, dim]``; see `forward`."""

    def states_and_copies(
        self, source_ids: Tensor, target_ids: Tensor, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, CopyDistribution | None]:
        """Compute the decoder's last hidden states and what is copied; see `forward`.

        Returns:
            ``[batch, length, dim]``, which `logits` maps to the vocabulary, and the copies to mix
            them with; None where the model does not copy.
        """
        return self.hidden_states(source_ids, target_ids, lengths=lengths), None

    @abstractmethod
    def init_state(self, source_ids: Tensor, *, lengths: Tensor | None = None) -> S:
        """Read a source.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with `pad_id`.
            lengths: Tokens of each source, ``[batch]``; None finds them by `pad_id`.

        Returns:
            The state before the first token.
        """

    @abstractmethod
    def next_logits(self, target_ids: Tensor, state: S) -> Tensor:
        """Decode the next tokens.

        Args:
            target_ids: The next tokens of each row, ``[batch, length]``.
            state: State from `init_state`; updated in place.

        Returns:
            Logits after each of them, ``[batch, length, vocab]``; log-probabilities where the model
            copies.
        """

    def decode_step(self, ids: Tensor, state: S) -> Tensor:
        """Decode one token.

        Args:
            ids: The last token of each row, ``[batch]``.
            state: State from `init_state`; updated in place.

        Returns:
            Logits of the next token, ``[batch, vocab]``; log-probabilities where the model copies.
        """
        return self.next_logits(ids[:, None], state)[:, 0]

    @property
    def alignment_attention(self) -> CrossAttention | Seq2SeqAttention | None:
        """The attention over the source that aligns best; None where the model has none.

        That of the last-but-one decoder layer (Garg et al. 2019, section 4.1).
        """
        attentions = [
            cast("CrossAttention | Seq2SeqAttention", module.cross_attention)
            for module in self.modules()
            if hasattr(module, "cross_attention")
        ]
        return attentions[-2:][0]


class SinglePassDecoder(EncoderDecoder[S]):
    """An encoder-decoder that decodes one token or all of them in the same way.

    A family writes `init_state` and `decode`.
    """

    @abstractmethod
    def decode(self, target_ids: Tensor, state: S) -> Tensor:
        """Decode the next ``[batch, length]`` tokens and update the state.

        Returns:
            The decoder's last hidden states, ``[batch, length, dim]``.
        """

    def hidden_states(
        self, source_ids: Tensor, target_ids: Tensor, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Compute the decoder's last hidden states, ``[batch, length, dim]``; see `forward`."""
        return self.decode(target_ids, self.init_state(source_ids, lengths=lengths))

    def next_logits(self, target_ids: Tensor, state: S) -> Tensor:
        """Decode the next tokens, ``[batch, length]``, to logits ``[batch, length, vocab]``."""
        return self.logits(self.decode(target_ids, state))


@dataclass
class DecoderState:
    """The state of a Transformer's decoder between two tokens.

    Rows in succession, such as the beams of a sentence, share one source, whose keys and values
    are held once.

    Args:
        memory: Keys and values of the sources, one pair a layer, ``[sources, heads, keys,
            head_dim]``.
        lengths: Valid positions of each source, ``[sources]``.
        caches: Caches of self-attention over the target, one a layer.
        copy_source: What a copy head reads; None where the model has none.
        readers: Number of rows of each source.
    """

    memory: list[tuple[Tensor, Tensor]]
    lengths: Tensor
    caches: list[LayerCache]
    copy_source: CopySource | None = None
    readers: int = 1

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        sources, self.readers = shared_sources(rows // self.readers)
        if not is_identity(sources, len(self.lengths)):
            self.memory = [
                (k.index_select(0, sources), v.index_select(0, sources)) for k, v in self.memory
            ]
            self.lengths = self.lengths.index_select(0, sources)
            if self.copy_source is not None:
                self.copy_source = self.copy_source.select(sources)
        for cache in self.caches:
            cache.select(rows)


def tied_tables(
    vocab_size: int, dim: int, tied: Tied
) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    """Return the tables of source, target and output, ``[vocab, dim]``; tied ones are the same."""
    source = token_table(vocab_size, dim)
    target = source if tied == "all" else token_table(vocab_size, dim)
    return source, target, token_table(vocab_size, dim) if tied == "none" else target
