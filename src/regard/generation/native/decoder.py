"""Models whose steps of decoding are one call of C++ each.

`NativeDecoder` is a `Seq2SeqDecoder` and `NativeCausalDecoder` a `CausalDecoder`, so that every
search and every sampler runs on them; their `decode_top` joins the step with log-sum-exp and the
best tokens, so that no ``[rows, vocab]`` numbers are stored.

Weights are packed once, when the decoder is made: a model that is trained on needs a new one. A
row's numbers do not depend on the other rows, nor on the number of threads. In int8, weights are
rounded to 8 bits with a scale for each output, and the rows that they multiply to as many bits as
32-bit sums allow (13 to 15), with a scale for each row.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, ShapeError
from regard.generation.native import library
from regard.generation.native.coverage import (
    band_of,
    causal_part,
    decoder_blocks,
    target_embedding,
    why_through_operators,
)
from regard.generation.native.library import Precision
from regard.layers.embedding import TokenEmbedding
from regard.layers.linear import Linear
from regard.layers.multi_head_attention import SelfAttention
from regard.layers.norm import LayerNorm, RMSNorm
from regard.layers.positions import LearnedPositions, SinusoidalPositions, sinusoids
from regard.layers.rotary import Rotary
from regard.layers.transformer_block import DecoderBlock, TransformerBlock
from regard.models.base.decoder import Decoder
from regard.models.base.encoder_decoder import EncoderDecoder
from regard.models.base.text_model import TextModel, token_lengths
from regard.models.encoder_decoder.model import EncoderDecoderModel
from regard.models.transformer.model import Transformer

_PIECE = 256  # new tokens of a row that are read at once: the rest of a prompt waits


class TopTokens(NamedTuple):
    """The best next tokens of each row.

    Args:
        logits: Highest first, ``[rows, k]``.
        ids: Their tokens, ``[rows, k]``.
        log_sum: Log-sum-exp of all logits of each row, ``[rows]``: ``logits - log_sum[:, None]``
            are log-probabilities.
    """

    logits: Tensor
    ids: Tensor
    log_sum: Tensor


class NativeState:
    """Keys and values of the rows that are decoded, in the compiled decoder."""

    def __init__(self, model: _Native) -> None:
        self._library = model._library
        handle = self._library.regard_state_new(model._handle)
        if handle is None:
            raise MemoryError("decoding: no memory for a state")
        self._handle = handle
        self._model = model  # the packed weights live as long as it
        weakref.finalize(self, self._library.regard_state_free, handle)
        self.num_rows = 0
        self.length = 0
        """Positions of the row that has most."""

    def __len__(self) -> int:
        """Count the positions seen."""
        return self.length

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_rows]``; no keys or values are copied."""
        rows = rows.long().contiguous()
        check = self._library.regard_state_select(self._handle, rows.data_ptr(), len(rows))
        library.check(check)
        self.num_rows = len(rows)

    @property
    def num_bytes(self) -> int:
        """Memory of the keys and values of the targets, in bytes."""
        return self._library.regard_state_bytes(self._handle)


class _Native:
    """The packed weights of a model, and the step of its decoder.

    Args:
        model: In evaluation mode, on the CPU.
        precision: Type of the weights.
        num_threads: Of each step; None takes those of PyTorch at each.

    Raises:
        ConfigError: The compiled decoder does not cover the model.
    """

    def __init__(
        self,
        model: TextModel,
        *,
        precision: Precision = "float32",
        num_threads: int | None = None,
    ) -> None:
        reason = why_through_operators(model)
        compiled = library.load_fastest()
        if reason is not None or compiled is None:
            raise ConfigError(f"the model decodes through PyTorch's operators: {reason}.")
        self.vocab_size, self.precision, self.num_threads = model.vocab_size, precision, num_threads
        self._library = compiled
        self._alive: list[Tensor] = []
        blocks = decoder_blocks(model)
        attention = _self_attention(blocks[0])
        embedding = target_embedding(model)
        self._positions = _PositionTables(embedding, attention)
        sizes = _sizes(blocks, embedding, precision)
        handle = compiled.regard_model_new(None, ctypes.byref(sizes))
        if handle is None:
            raise MemoryError("decoding: no memory for the weights")
        self._handle = handle
        weakref.finalize(self, compiled.regard_model_free, handle)
        with torch.no_grad():
            self._pack_embedding(embedding)
            for number, block in enumerate(blocks):
                self._pack_block(number, block)
            self._pack_output(model)

    def decode_step(self, ids: Tensor, state: NativeState) -> Tensor:
        """Decode the next tokens: ids ``[rows]`` or ``[rows, new]`` to logits ``[rows, vocab]``."""
        ids = self._read_prompt(ids, state)
        logits = torch.empty(state.num_rows, self.vocab_size)
        self._step(ids, state, logits=logits)
        return logits

    def decode_top(self, ids: Tensor, state: NativeState, k: int) -> TopTokens:
        """Decode the next tokens and find the best ones after them.

        Args:
            ids: The last token of each row, ``[rows]``, or the next ones, ``[rows, new]``.
            state: Updated in place.
            k: Number of tokens of each row, 1 to the size of the vocabulary.

        Returns:
            The k best tokens; equal logits are in the order of their tokens.

        Raises:
            ShapeError: There are not as many tokens.
        """
        if not 1 <= k <= self.vocab_size:
            raise ShapeError(f"k must be 1 to {self.vocab_size}, not {k}.")
        ids = self._read_prompt(ids, state)
        rows = state.num_rows
        top = TopTokens(
            torch.empty(rows, k), torch.empty(rows, k, dtype=torch.long), torch.empty(rows)
        )
        self._step(ids, state, top=top)
        return top

    def _read_prompt(self, ids: Tensor, state: NativeState) -> Tensor:
        """Check ids, ``[rows]`` or ``[rows, new]``; decode all but the last few of long rows."""
        ids = ids.reshape(len(ids), -1)
        if len(ids) != state.num_rows or ids.shape[1] == 0:
            raise ShapeError(f"ids are {list(ids.shape)}; [{state.num_rows}, new] is expected.")
        while ids.shape[1] > _PIECE:
            self._step(ids[:, :_PIECE], state)
            ids = ids[:, _PIECE:]
        return ids

    def _step(
        self,
        ids: Tensor,
        state: NativeState,
        *,
        logits: Tensor | None = None,
        top: TopTokens | None = None,
    ) -> None:
        ids = ids.long().contiguous()
        num_new = ids.shape[1]
        positions = self._positions.up_to(state.length + num_new)
        best = (None, None, None) if top is None else tuple(x.data_ptr() for x in top)
        result = self._library.regard_state_step(
            state._handle,
            ctypes.byref(positions.record),
            ids.data_ptr(),
            num_new,
            None if logits is None else logits.data_ptr(),
            0 if top is None else top.logits.shape[1],
            *best,
            self._threads(),
        )
        library.check(result)
        state.length += num_new

    def _threads(self) -> int:
        return torch.get_num_threads() if self.num_threads is None else self.num_threads

    def _pointer(self, tensor: Tensor | None) -> int | None:
        """Return the address of float32 numbers, which live as long as this object."""
        if tensor is None:
            return None
        readable = tensor.detach().float().contiguous()
        self._alive.append(readable)
        return readable.data_ptr()

    def _pack_embedding(self, embedding: TokenEmbedding) -> None:
        norm = embedding.norm
        library.check(
            self._library.regard_set_embedding(
                self._handle,
                0,
                self._pointer(embedding.weight),
                None if norm is None else self._pointer(norm.weight),
                None if norm is None else self._pointer(norm.bias),
                0.0 if norm is None else norm.epsilon,
            )
        )

    def _pack_block(self, number: int, block: nn.Module) -> None:
        assert isinstance(block, DecoderBlock | TransformerBlock)
        attention = _self_attention(block)
        if attention.is_grouped:
            self._pack_map(number, library.SELF_QKV, attention.query, attention.key_value)
        else:
            self._pack_map(number, library.SELF_QKV, attention.query_key_value)
        self._pack_map(number, library.SELF_OUT, attention.output)
        if isinstance(block, DecoderBlock):
            self._pack_map(number, library.CROSS_Q, block.cross_attention.query)
            self._pack_map(number, library.CROSS_KV, block.cross_attention.key_value)
            self._pack_map(number, library.CROSS_OUT, block.cross_attention.output)
            self._pack_norm(number, library.SELF_NORM, block.self_residual.norm)
            self._pack_norm(number, library.CROSS_NORM, block.cross_residual.norm)
        else:
            self._pack_norm(number, library.SELF_NORM, block.attention_residual.norm)
        self._pack_norm(number, library.FEED_FORWARD_NORM, block.feed_forward_residual.norm)
        self._pack_map(number, library.INNER, block.feed_forward.inner)
        self._pack_map(number, library.OUTER, block.feed_forward.outer)

    def _pack_map(self, layer: int, name: int, *maps: Linear) -> None:
        """Pack linear maps, stacked along their outputs."""
        weight = torch.cat([one.adapted_weight().float() for one in maps]).contiguous()
        biases = [one.bias.float() for one in maps if one.bias is not None]
        bias = torch.cat(biases).contiguous() if biases else None
        library.check(
            self._library.regard_set_map(
                self._handle,
                0,
                layer,
                name,
                weight.data_ptr(),
                None if bias is None else bias.data_ptr(),
            )
        )

    def _pack_norm(self, layer: int, name: int, norm: nn.Module) -> None:
        assert isinstance(norm, LayerNorm | RMSNorm)
        bias = norm.bias if isinstance(norm, LayerNorm) else None
        library.check(
            self._library.regard_set_norm(
                self._handle, 0, layer, name, self._pointer(norm.weight), self._pointer(bias)
            )
        )

    def _pack_output(self, model: TextModel) -> None:
        part = causal_part(model)
        if isinstance(model, Transformer):
            last, bias = model.decoder_norm, model.output_bias
        else:
            assert part is not None
            last, bias = part.norm, getattr(part, "output_bias", None)
        if not isinstance(last, nn.Identity):
            self._pack_norm(-1, 0, last)
        bias = None if bias is None else bias.flatten()
        weight = self._pointer(model.output_weight)
        library.check(self._library.regard_set_output(self._handle, weight, self._pointer(bias)))


class NativeDecoder(_Native):
    """An encoder-decoder of which every step of decoding is one call.

    Args:
        model: In evaluation mode, on the CPU.
        precision: Type of the decoder's weights.
        num_threads: Of each step; None takes those of PyTorch at each.

    Raises:
        ConfigError: The compiled decoder does not cover the model.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        *,
        precision: Precision = "float32",
        num_threads: int | None = None,
    ) -> None:
        super().__init__(model, precision=precision, num_threads=num_threads)
        assert isinstance(model, Transformer | EncoderDecoderModel)
        self.model = model
        self.pad_id, self.start_id = model.pad_id, model.start_id

    def init_state(self, source_ids: Tensor, *, lengths: Tensor | None = None) -> NativeState:
        """Read a source, ``[batch, length]``; return the state before the first token."""
        state = NativeState(self)
        self.add_sources(source_ids, state, lengths=lengths)
        return state

    @torch.inference_mode()
    def add_sources(
        self, source_ids: Tensor, state: NativeState, *, lengths: Tensor | None = None
    ) -> None:
        """Read more sources, ``[batch, length]``: their rows, without tokens yet, come last."""
        lengths = token_lengths(source_ids, lengths, pad_id=self.pad_id).long().contiguous()
        encoded = self.model.encode(source_ids, lengths)
        states = encoded[0] if isinstance(encoded, tuple) else encoded
        states = states.float().contiguous()
        batch, length, _ = states.shape
        library.check(
            self._library.regard_state_add_sources(
                state._handle, states.data_ptr(), batch, length, lengths.data_ptr(), self._threads()
            )
        )
        state.num_rows += batch


class NativeCausalDecoder(_Native):
    """A decoder-only model of which every step of decoding is one call.

    Args:
        model: In evaluation mode, on the CPU.
        precision: Type of the weights.
        num_threads: Of each step; None takes those of PyTorch at each.

    Raises:
        ConfigError: The compiled decoder does not cover the model.
    """

    def __init__(
        self,
        model: Decoder,
        *,
        precision: Precision = "float32",
        num_threads: int | None = None,
    ) -> None:
        super().__init__(model, precision=precision, num_threads=num_threads)
        self.model = model

    def init_state(self) -> NativeState:
        """Return the state before the first token; the first step sets its number of rows."""
        return NativeState(self)

    def _read_prompt(self, ids: Tensor, state: NativeState) -> Tensor:
        if state.length == 0 and state.num_rows == 0:
            library.check(self._library.regard_state_add_rows(state._handle, len(ids)))
            state.num_rows = len(ids)
        return super()._read_prompt(ids, state)


class _Tables(NamedTuple):
    """Tables of positions, and the record with their addresses."""

    record: library.Positions
    tensors: tuple[Tensor, ...]
    num_positions: int


class _PositionTables:
    """What is added to embeddings by position, and the angles of rotary positions."""

    def __init__(self, embedding: TokenEmbedding, attention: SelfAttention) -> None:
        self.positions, self.rotary = embedding.positions, attention.rotary
        self.head_dim = attention.head_dim
        self.tables = self._compute(256)

    def up_to(self, length: int) -> _Tables:
        """Return tables of at least as many positions."""
        tables = self.tables
        if tables.num_positions < length:
            self.tables = tables = self._compute(max(length, 2 * tables.num_positions))
        return tables

    def _compute(self, num: int) -> _Tables:
        record = library.Positions()
        tensors: list[Tensor] = []
        positions = self.positions
        if isinstance(positions, LearnedPositions):
            record.offset = positions.offset
            tensors.append(positions.weight.detach().float().contiguous())
        elif isinstance(positions, SinusoidalPositions):
            tensors.append(sinusoids(num, positions.dim, positions.order))
        if tensors:
            record.rows, record.num_rows = tensors[0].data_ptr(), len(tensors[0])
        if self.rotary is not None:
            angles = _angles(num, self.head_dim, self.rotary)
            cosines, sines = angles.cos().float(), angles.sin().float()
            tensors += [cosines, sines]
            record.cosines, record.sines = cosines.data_ptr(), sines.data_ptr()
            record.num_angles = num
        return _Tables(record, tuple(tensors), num)


def _angles(num: int, dim: int, rotary: Rotary) -> Tensor:
    """Return the angles of positions 0 to num - 1, ``[num, dim / 2]``, in float64."""
    pairs = torch.arange(0, dim, 2, dtype=torch.float64)
    return torch.arange(num).double()[:, None] * rotary.base ** (-pairs / dim)


def _self_attention(block: nn.Module) -> SelfAttention:
    attention = block.self_attention
    assert isinstance(attention, SelfAttention)
    return attention


def _sizes(
    blocks: Sequence[nn.Module], embedding: TokenEmbedding, precision: Precision
) -> library.Sizes:
    """Return the dimensions of a stack of blocks of one kind."""
    first = blocks[0]
    assert isinstance(first, DecoderBlock | TransformerBlock)
    attention, norm = _self_attention(first), first.feed_forward_residual.norm
    bands = [band_of(_self_attention(block).pattern) for block in blocks]
    rotary = attention.rotary
    reaches = ctypes.c_int64 * len(blocks)
    vocab_size, dim = embedding.weight.shape
    return library.Sizes(
        num_layers=len(blocks),
        dim=dim,
        num_heads=attention.num_heads,
        num_kv_heads=attention.num_kv_heads,
        head_dim=attention.head_dim,
        hidden_dim=first.feed_forward.outer.in_features,
        vocab_size=vocab_size,
        activation=library.ACTIVATIONS[first.feed_forward.activation_name],
        norm=int(isinstance(norm, RMSNorm)),
        is_pre=int(first.feed_forward_residual.is_pre),
        reads_source=int(isinstance(first, DecoderBlock)),
        rotary=0 if rotary is None else 2 if rotary.interleaved else 1,
        precision=library.PRECISIONS[precision],
        epsilon=norm.epsilon,
        embedding_scale=embedding.scale,
        before=reaches(*(-1 if band is None else _bound(band.before) for band in bands)),
        after=reaches(*(-1 if band is None else _bound(band.after) for band in bands)),
    )


def _bound(reach: int | None) -> int:
    return -1 if reach is None else reach
