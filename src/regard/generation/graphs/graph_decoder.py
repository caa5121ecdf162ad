"""Decoding of sources on a GPU by steps that are repeated as CUDA graphs.

A source has a slot of the step's memory from its first token to its last. Slots that are free are
computed, too, until half of them are: then the sources move to a step of fewer (`_shape_for`).
Others may take free slots at any time.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.errors import ShapeError
from regard.generation.graphs.recorded_work import Record, Recorder, record_cuda_graph
from regard.generation.graphs.static_step import SMALLEST_CAPACITY, StaticStep, StepShape
from regard.generation.top_tokens import TopTokens
from regard.layers.pointer_generator import CopySource
from regard.models.base.encoder_decoder import DecoderState, EncoderDecoder

_SLOTS = 8  # their number is a multiple of this
_SOURCE_POSITIONS = 32  # the same of a source's positions


class GraphState:
    """What is decoded: which source a row reads and which row it continues, in main memory."""

    def __init__(self) -> None:
        self.slots = np.zeros(0, dtype=np.int64)
        """Slot of each row's source, ``[rows]``; below 0 where it has none yet."""
        self.origins = np.zeros(0, dtype=np.int64)
        """The row of its source that a row continues, ``[rows]``."""
        self.positions = np.zeros(0, dtype=np.int64)
        """Position of the next token of each slot, ``[slots]``."""
        self.waiting: DecoderState | None = None
        """Sources without a slot."""
        self.step: StaticStep | None = None

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_rows]``, in main memory."""
        index = rows.numpy()
        self.slots, self.origins = self.slots[index], self.origins[index]

    def begin(self, sources: DecoderState) -> None:
        """Add a row for each of some sources."""
        first = 0
        if self.waiting is not None:
            first = len(self.waiting.lengths)
            sources = _joined(self.waiting, sources)
        self.waiting = sources
        new = -1 - np.arange(first, len(sources.lengths))
        self.slots = np.concatenate([self.slots, new])
        self.origins = np.concatenate([self.origins, np.zeros_like(new)])


class GraphDecoder:
    """A model on a GPU that writes a target for a source.

    Tokens and rows by index are in main memory. It is a `TopDecoder` and a `JoiningDecoder`.

    Args:
        model: In evaluation mode, covered by `why_not_covered`. After a change of its weights make
            another.
        record: Records a step; None computes every step kernel by kernel.
    """

    batch_factor = 4  # a step of a few hundred rows is mostly launches and the wait

    def __init__(
        self, model: EncoderDecoder[DecoderState], *, record: Record | None = record_cuda_graph
    ) -> None:
        self.model, self.vocab_size = model, model.vocab_size
        self._recorder = Recorder(record, model.device)

    def init_state(self, source_ids: Tensor) -> GraphState:
        """Encode sources, ``[batch, source_length]``; return the state of ``batch`` rows."""
        state = GraphState()
        self.add_sources(source_ids, state)
        return state

    @torch.inference_mode()
    def add_sources(self, source_ids: Tensor, state: GraphState) -> None:
        """Encode more sources, ``[batch, source_length]``, whose rows come last."""
        source_ids = source_ids.to(self.model.device, non_blocking=True)
        state.begin(self.model.init_state(source_ids))

    @torch.inference_mode()
    def decode_step(self, ids: Tensor, state: GraphState) -> Tensor:
        """Read the last token of each row, ``[rows]``; return logits ``[rows, vocab]``."""
        logits, rows = self._step(ids, state, 0)  # [all_rows, vocab]
        return logits[torch.from_numpy(rows).to(logits.device, non_blocking=True)]

    @torch.inference_mode()
    def decode_top(self, ids: Tensor, state: GraphState, k: int) -> TopTokens:
        """Read the last token of each row, ``[rows]``.

        Args:
            ids: In main memory.
            state: Updated in place.
            k: Number of tokens of each row, 1 to the size of the vocabulary.

        Returns:
            The k best tokens of each row, in main memory.

        Raises:
            ShapeError: There are not as many tokens, or sources have different numbers of rows.
        """
        if not 1 <= k <= self.vocab_size:
            raise ShapeError(f"k must be 1 to {self.vocab_size}, not {k}.")
        best, rows = self._step(ids, state, k)
        best = best.cpu()[torch.from_numpy(rows)]  # the one wait of a step
        return TopTokens.unpack(best, k)

    def _step(self, ids: Tensor, state: GraphState, k: int) -> tuple[Tensor, NDArray[np.int64]]:
        """Take a step; return what `StaticStep.run` does, and which of its rows are the state's."""
        if len(ids) != len(state.slots):
            raise ShapeError(f"{len(state.slots)} tokens are expected, one a row, not {len(ids)}.")
        num_readers = _num_readers(state.slots)
        groups = state.slots.reshape(-1, num_readers)[:, 0]  # [sources]
        slots = self._assign_slots(state, groups, num_readers)
        step = state.step
        assert step is not None
        num_slots, readers = step.shape.num_sources, np.arange(num_readers)
        inputs = np.zeros((num_slots, 2 * num_readers + 1), dtype=np.int64)
        inputs[slots, :num_readers] = ids.numpy().reshape(-1, num_readers)
        inputs[slots, num_readers:-1] = state.origins.reshape(-1, num_readers)
        inputs[slots, -1] = state.positions[slots]
        result = step.run(torch.from_numpy(inputs), k)  # [all_rows, vocab], or best tokens
        state.positions[slots] += 1
        state.slots = slots.repeat(num_readers)
        state.origins = np.tile(readers, len(slots))
        return result, (slots[:, None] * num_readers + readers).reshape(-1)

    def _assign_slots(
        self, state: GraphState, groups: NDArray[np.int64], num_readers: int
    ) -> NDArray[np.int64]:
        """Give every source a slot, in a step of another size where that is needed.

        Args:
            state: Updated in place.
            groups: Slots of the sources, below 0 where they wait for one, ``[sources]``.
            num_readers: Rows of each.

        Returns:
            Their slots, ``[sources]``.
        """
        slots, is_old, device = groups.copy(), groups >= 0, self.model.device
        old, waiting = state.step, state.waiting
        shape = _shape_for(state, groups, num_readers)
        if old is None or shape != old.shape:
            state.step = StaticStep(self.model, shape, self._recorder)
            if old is not None and is_old.any():
                moved = torch.from_numpy(groups[is_old]).to(device, non_blocking=True)
                state.step.copy_from(old, moved)
            positions = np.zeros(shape.num_sources, dtype=np.int64)
            positions[: is_old.sum()] = state.positions[groups[is_old]]
            state.positions = positions
            slots[is_old] = np.arange(is_old.sum())
        if waiting is not None:
            assert state.step is not None
            free = np.setdiff1d(np.arange(shape.num_sources), slots[is_old])
            slots[~is_old] = free[: (~is_old).sum()]
            state.positions[slots[~is_old]] = 0
            new_slots, indices = (
                torch.from_numpy(part).to(device, non_blocking=True)
                for part in (slots[~is_old], -1 - groups[~is_old])
            )
            state.step.load(new_slots, waiting, indices)
            state.waiting = None
        return slots


def _num_readers(slots: NDArray[np.int64]) -> int:
    """Return how many rows in succession read each source.

    Raises:
        ShapeError: Their numbers differ.
    """
    num_sources = 1 + int((slots[1:] != slots[:-1]).sum())
    num_readers = max(1, len(slots) // num_sources)
    if len(slots) % num_sources or np.ptp(slots.reshape(-1, num_readers), axis=1).any():
        raise ShapeError("the rows of each source must follow each other, the same number of each.")
    return num_readers


def _shape_for(state: GraphState, groups: NDArray[np.int64], num_readers: int) -> StepShape:
    """Return the sizes of the next step: those of the last where they fit and half are needed."""
    is_old, waiting = groups >= 0, state.waiting
    most = int(state.positions[groups[is_old]].max(initial=0)) + 1
    capacity = max(SMALLEST_CAPACITY, 1 << (most - 1).bit_length())
    source_length = 0 if waiting is None else waiting.memory[0][0].shape[2]
    source_length = max(1, -(-source_length // _SOURCE_POSITIONS)) * _SOURCE_POSITIONS
    num_slots = -(-len(groups) // _SLOTS) * _SLOTS
    if state.step is None:
        return StepShape(num_slots, num_readers, capacity, source_length)
    last = state.step.shape
    if num_readers != last.num_readers and is_old.any():
        raise ShapeError(
            f"each source had {last.num_readers} rows; it cannot have {num_readers} now."
        )
    if last.num_sources // 2 < len(groups) <= last.num_sources:
        num_slots = last.num_sources
    return StepShape(
        num_slots,
        num_readers,
        max(capacity, last.capacity) if num_slots == last.num_sources else capacity,
        max(source_length, last.source_length),
    )


def _joined(first: DecoderState, second: DecoderState) -> DecoderState:
    """Return the sources of two states that have no positions yet, padded to one length."""
    memory = [
        (_stacked(k, other_k, axis=2), _stacked(v, other_v, axis=2))
        for (k, v), (other_k, other_v) in zip(first.memory, second.memory, strict=True)
    ]
    copy_source = None
    if first.copy_source is not None and second.copy_source is not None:
        pairs = zip(first.copy_source, second.copy_source, strict=True)
        copy_source = CopySource(*(_stacked(*pair, axis=1) for pair in pairs))
    lengths = torch.cat([first.lengths, second.lengths])
    return DecoderState(memory, lengths, first.caches, copy_source)


def _stacked(first: Tensor, second: Tensor, *, axis: int) -> Tensor:
    """Return the rows of two tensors below each other, zero behind the shorter one's positions."""
    longest = max(first.shape[axis], second.shape[axis])
    shape = [len(first) + len(second), *first.shape[1:]]
    shape[axis] = longest
    stacked = first.new_zeros(shape)
    stacked[: len(first)].narrow(axis, 0, first.shape[axis]).copy_(first)
    stacked[len(first) :].narrow(axis, 0, second.shape[axis]).copy_(second)
    return stacked
