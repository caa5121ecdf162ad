"""Models whose steps of decoding are one call of C++ each.

`NativeDecoder` is a `Seq2SeqDecoder` and `NativeCausalDecoder` a `CausalDecoder`, so that every
search and every sampler runs on them; their `decode_top` joins the step with log-sum-exp and the
best tokens, so that no ``[rows, vocab]`` numbers are stored.

Weights are packed once, when the decoder is made: a model that is trained on needs a new one. A
row's numbers do not depend on the other rows, nor on the number of threads. In bf16, weights and
the rows that they multiply are rounded to bfloat16. In int8 they are rounded to 8 bits, weights
with a scale for each output, and rows with a scale and a zero each. All else is float32, except for
the keys and values that are kept, which are bfloat16 in both.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.errors import ShapeError
from regard.generation.constraints import check_numbers
from regard.generation.decoding import Beams, Candidates
from regard.generation.native import library
from regard.generation.native.packing import PackedModel
from regard.generation.top_tokens import TopTokens
from regard.models.base.text_model import TextModel, token_lengths

if TYPE_CHECKING:
    from regard.models.base.encoder_decoder import EncoderDecoder
    from regard.settings.values import DecodingPrecision

_PIECE = 256  # new tokens of a row that are read at once: the rest of a prompt waits


class NativeState:
    """Keys and values of the rows that are decoded, in the compiled decoder.

    Args:
        packed: The weights, which live as long as the state.
    """

    def __init__(self, packed: PackedModel) -> None:
        self._packed = packed
        self.handle: int = packed.library.regard_state_new(packed.handle)
        library.check(0 if self.handle else 1)
        weakref.finalize(self, packed.library.regard_state_free, self.handle)
        self.lengths = np.zeros(0, dtype=np.int64)
        """Positions of each row, ``[rows]``."""
        self._longest = 0
        self.is_new = True
        """Whether it has not had rows yet."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    def __len__(self) -> int:
        """Count the positions of the row that has most."""
        return self._longest

    def add_rows(self, count: int) -> None:
        """Note rows without positions that the library added."""
        self.lengths = np.append(self.lengths, np.zeros(count, dtype=np.int64))
        self.is_new = False

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_rows]``; no keys or values are copied."""
        rows = rows.long().contiguous()
        result = self._packed.library.regard_state_select(self.handle, rows.data_ptr(), len(rows))
        library.check(result)
        self.lengths = self.lengths[rows.numpy()]
        self._longest = int(self.lengths.max(initial=0))

    def join(self, other: NativeState) -> None:
        """Add copies of the rows of another state of the same model, which come last."""
        library.check(self._packed.library.regard_state_join(self.handle, other.handle))
        self.lengths = np.concatenate([self.lengths, other.lengths])
        self._longest = int(self.lengths.max(initial=0))
        self.is_new = False

    def advance(self, count: int) -> None:
        """Note that every row has this many more positions."""
        self.lengths = self.lengths + count
        self._longest += count

    @property
    def num_bytes(self) -> int:
        """Memory of the keys and values of the targets, in bytes."""
        return self._packed.library.regard_state_bytes(self.handle)


class _Native:
    """A model with packed weights.

    Args:
        model: In evaluation mode, on the CPU.
        precision: Type of the weights.
        num_threads: Of each call; None takes those of PyTorch at the time.

    Raises:
        ConfigError: The compiled decoder does not cover the model.
    """

    def __init__(
        self,
        model: TextModel,
        *,
        precision: DecodingPrecision = "float32",
        num_threads: int | None = None,
    ) -> None:
        self.vocab_size, self.precision, self.num_threads = model.vocab_size, precision, num_threads
        self._packed = PackedModel(model, precision)

    def decode_step(self, ids: Tensor, state: NativeState) -> Tensor:
        """Decode ids of shape ``[rows]`` or ``[rows, new]`` to logits, ``[rows, vocab]``."""
        ids = self._read_prompt(ids, state)
        logits = torch.empty(state.num_rows, self.vocab_size)
        self._step(ids, state, logits=logits)
        return logits

    def decode_top(self, ids: Tensor, state: NativeState, k: int) -> TopTokens:
        """Decode the next tokens and find the best ones after them.

        Args:
            ids: The last token of each row, or the next ones, of shape ``[rows, new]``.
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
        """Check ids of shape ``[rows, new]`` or ``[rows]``; decode long ones but for the last."""
        ids = self._as_rows(ids, state.num_rows)
        if ids.shape[1] > _PIECE:  # before the first piece is decoded
            self._require_tokens(ids)
        while ids.shape[1] > _PIECE:
            self._step(ids[:, :_PIECE], state)
            ids = ids[:, _PIECE:]
        return ids

    def _as_rows(self, ids: Tensor, num_rows: int) -> Tensor:
        """Return ids of shape ``[rows, new]`` or ``[rows]`` as the former; raise for another."""
        if ids.dim() == 1:
            ids = ids[:, None]
        if ids.dim() != 2 or len(ids) != num_rows or ids.shape[1] == 0:
            raise ShapeError(f"ids are {list(ids.shape)}; [{num_rows}, new] is expected.")
        return ids

    def _require_tokens(self, ids: Tensor) -> None:
        """Raise IndexError where an id is no token, as the library does."""
        are_tokens = bool(((ids >= 0) & (ids < self.vocab_size)).all())
        library.check(library.DONE if are_tokens else library.OUT_OF_RANGE)

    def _step(
        self,
        ids: Tensor,
        state: NativeState,
        *,
        logits: Tensor | None = None,
        top: TopTokens | None = None,
    ) -> None:
        """Decode ids of shape ``[rows, new]``; what is computed after them is written in place."""
        ids = ids.long().contiguous()
        num_new = ids.shape[1]
        positions = self._packed.target_positions.up_to(len(state) + num_new)
        best = (None, None, None) if top is None else tuple(x.data_ptr() for x in top)
        result = self._packed.library.regard_state_step(
            state.handle,
            ctypes.byref(positions.record),
            ids.data_ptr(),
            num_new,
            None if logits is None else logits.data_ptr(),
            0 if top is None else top.logits.shape[1],
            *best,
            self._threads(),
        )
        library.check(result)
        state.advance(num_new)

    def _threads(self) -> int:
        return torch.get_num_threads() if self.num_threads is None else self.num_threads


class NativeDecoder(_Native):
    """An encoder-decoder of which every step of decoding is one call.

    Args:
        model: In evaluation mode, on the CPU.
        precision: Type of the weights.
        num_threads: Of each call; None takes those of PyTorch at the time.

    Raises:
        ConfigError: The compiled decoder does not cover the model.
    """

    batch_factor = 1

    def __init__(
        self,
        model: EncoderDecoder,
        *,
        precision: DecodingPrecision = "float32",
        num_threads: int | None = None,
    ) -> None:
        super().__init__(model, precision=precision, num_threads=num_threads)
        self._model = model

    def init_state(self, source_ids: Tensor, *, lengths: Tensor | None = None) -> NativeState:
        """Read a source, ``[batch, length]``; return the state before the first token."""
        state = NativeState(self._packed)
        self.add_sources(source_ids, state, lengths=lengths)
        return state

    def add_sources(
        self, source_ids: Tensor, state: NativeState, *, lengths: Tensor | None = None
    ) -> None:
        """Read more sources, ``[batch, length]``: their rows, without tokens yet, come last."""
        lengths = token_lengths(source_ids, lengths, pad_id=self._model.pad_id).long().contiguous()
        batch, length = source_ids.shape
        positions, threads = self._packed.source_positions, self._threads()
        ids = source_ids.long().contiguous()
        if positions is None:
            states = self._encode(source_ids, lengths)
            result = self._packed.library.regard_state_add_sources(
                state.handle,
                ids.data_ptr(),
                states.data_ptr(),
                batch,
                length,
                lengths.data_ptr(),
                threads,
            )
        else:
            tables = positions.up_to(length)  # kept: another thread may replace them meanwhile
            result = self._packed.library.regard_state_read(
                state.handle,
                ctypes.byref(tables.record),
                ids.data_ptr(),
                batch,
                length,
                lengths.data_ptr(),
                threads,
            )
        library.check(result)
        state.add_rows(batch)

    def search(
        self, beams: Beams, state: NativeState, most: int
    ) -> Candidates | NDArray[np.int64] | None:
        """Take steps of a beam search; see `SearchingDecoder`."""
        num, beam, room = beams.tokens.shape
        candidates = Candidates(
            np.empty((num, 2 * beam), dtype=np.float32),
            *np.empty((2, num, 2 * beam), dtype=np.int64),
        )
        arrays = (*beams[:7], *candidates)
        assert all(array is None or array.flags.c_contiguous for array in arrays)
        pointers = (None if array is None else array.ctypes.data for array in arrays)
        record = library.NativeBeams(num, beam, room, *beams[7:], *pointers)
        positions = self._packed.target_positions.up_to(len(state) + most)
        num_steps, stop = ctypes.c_int64(), ctypes.c_int64()
        result = self._packed.library.regard_state_search(
            state.handle,
            ctypes.byref(positions.record),
            ctypes.byref(record),
            most,
            self._threads(),
            ctypes.byref(num_steps),
            ctypes.byref(stop),
        )
        library.check(result)
        check_numbers(stop.value != library.NO_NUMBERS)
        state.advance(num_steps.value)
        if stop.value == library.CLOSED:
            return candidates
        origins = candidates.origins.reshape(-1)[: num * beam].reshape(num, beam)
        return origins if stop.value == library.SOME_DONE else None

    @torch.inference_mode()
    def _encode(self, source_ids: Tensor, lengths: Tensor) -> Tensor:
        """Encode through PyTorch's operators: ``[batch, length, dim]`` in float32."""
        encode = cast("Callable[..., Any]", self._model.encode)
        encoded = encode(source_ids, lengths)
        states = encoded if isinstance(encoded, Tensor) else encoded[0]  # with lengths
        return states.float().contiguous()


class NativeCausalDecoder(_Native):
    """A decoder-only model of which every step of decoding is one call."""

    def init_state(self) -> NativeState:
        """Return the state before the first token; the first step sets its number of rows."""
        return NativeState(self._packed)

    def join(self, state: NativeState, other: NativeState) -> None:
        """Add the rows of another state, which come last."""
        state.join(other)

    def _read_prompt(self, ids: Tensor, state: NativeState) -> Tensor:
        if state.is_new:
            ids = self._as_rows(ids, len(ids) if ids.dim() else 0)
            self._require_tokens(ids)
            library.check(self._packed.library.regard_state_add_rows(state.handle, len(ids)))
            state.add_rows(len(ids))
        return super()._read_prompt(ids, state)
