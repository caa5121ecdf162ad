"""Continuing texts on a GPU by steps that are repeated as CUDA graphs.

The prompt is read by the model with caches that grow; the first step of one token moves its keys
to the memory of a `StaticStep`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.errors import ShapeError
from regard.generation.graphs.recorded_work import Record, Recorder, record_cuda_graph
from regard.generation.graphs.static_step import SMALLEST_CAPACITY, StaticStep, StepShape
from regard.layers.cache import KeyValueCache
from regard.models.base.decoder import Decoder, LayerCaches


class GraphCausalState:
    """What is continued.

    Args:
        num_layers: Of the model.
    """

    def __init__(self, num_layers: int) -> None:
        self.caches = [KeyValueCache() for _ in range(num_layers)]
        """Of the prompt, until `step` has its keys."""
        self.step: StaticStep | None = None
        self.num_rows: int | None = None
        """Number of rows; None before the first token."""
        self.length = 0
        self.rows: Tensor | None = None
        """The row of the last step that each row continues, ``[rows]``; None is itself."""

    def __len__(self) -> int:
        """Count the positions seen."""
        return self.length

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_rows]``."""
        self.num_rows = len(rows)
        if self.step is None:
            for cache in self.caches:
                cache.select(rows.to(_device_of(cache), non_blocking=True))
        else:
            self.rows = rows if self.rows is None else self.rows[rows]


class GraphCausalDecoder:
    """A model on a GPU that continues a text; tokens and rows by index are in main memory.

    Args:
        model: In evaluation mode, covered by `why_not_covered`. After a change of its weights make
            another.
        record: Records a step; None computes every step kernel by kernel.
    """

    def __init__(self, model: Decoder, *, record: Record | None = record_cuda_graph) -> None:
        self.model, self.vocab_size = model, model.vocab_size
        self._recorder = Recorder(record, model.device)

    def init_state(self) -> GraphCausalState:
        """Return the state before the first token."""
        return GraphCausalState(len(self.model.blocks))

    @torch.inference_mode()
    def decode_step(self, ids: Tensor, state: GraphCausalState) -> Tensor:
        """Read the next tokens of each row.

        Args:
            ids: ``[rows, new]``.
            state: Updated in place.

        Returns:
            Logits of the token after the last, ``[rows, vocab]``.

        Raises:
            ShapeError: There are tokens for another number of rows.
        """
        if state.num_rows not in (None, len(ids)):
            raise ShapeError(f"{state.num_rows} rows of tokens are expected, not {len(ids)}.")
        state.num_rows = len(ids)
        if state.step is None and ids.shape[1] > 1:
            there = ids.to(self.model.device, non_blocking=True)
            logits = self.model.decode_step(there, LayerCaches(state.caches))
            state.length += ids.shape[1]
            return logits
        columns = [self._step(column, state) for column in ids.split(1, dim=1)]
        return columns[-1]

    def _step(self, ids: Tensor, state: GraphCausalState) -> Tensor:
        """Read a token of each row, ``[rows, 1]``; return logits ``[rows, vocab]``."""
        step = self._step_with_room(state, len(ids))
        inputs = torch.zeros(len(ids), 3, dtype=torch.long, device=ids.device)
        inputs[:, 0], inputs[:, 2] = ids[:, 0], state.length
        state.length += 1
        return step.run(inputs, 0).clone()

    def _step_with_room(self, state: GraphCausalState, num_rows: int) -> StaticStep:
        """Return a step whose memory holds the rows so far and one more position."""
        old, device = state.step, self.model.device
        if old is not None and state.rows is None and state.length < old.shape.capacity:
            return old
        capacity = max(SMALLEST_CAPACITY, 1 << state.length.bit_length())
        step = StaticStep(self.model, StepShape(num_rows, 1, capacity), self._recorder)
        if old is not None:
            rows = torch.arange(num_rows) if state.rows is None else state.rows
            step.copy_from(old, rows.to(device, non_blocking=True))
        elif state.length:
            for new, cache in zip(step.caches, state.caches, strict=True):
                assert cache.keys is not None
                assert cache.values is not None
                new.keys[:, :, 0, : state.length] = cache.keys
                new.values[:, :, 0, : state.length] = cache.values
            state.caches = []
        state.step, state.rows = step, None
        return step


def _device_of(cache: KeyValueCache) -> torch.device:
    """Return where a cache is; before its first position it has no rows to select."""
    return torch.device("cpu") if cache.keys is None else cache.keys.device
