"""One step of a Transformer's decoder over memory that keeps its shapes and addresses.

What a step reads from Python, tokens, the order of hypotheses and positions, is one tensor that is
copied to the device before it; what Python reads, the best tokens of each row, is one that is
copied back.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from regard.generation.graphs.recorded_work import RecordedWork, Recorder
from regard.generation.native.coverage import BlockStack, band_of, self_attention_of, target_stack
from regard.generation.top_tokens import top_tokens
from regard.layers.pointer_generator import CopySource
from regard.layers.positions import SinusoidalPositions
from regard.layers.static_cache import StaticCache, StaticRows
from regard.layers.transformer_block import DecoderBlock
from regard.models.base.decoder import Decoder, LayerCaches
from regard.models.base.encoder_decoder import DecoderState, EncoderDecoder
from regard.models.base.text_model import TextModel

SMALLEST_CAPACITY = 32  # positions


class StepShape(NamedTuple):
    """The sizes of the memory of a step.

    Args:
        num_sources: Groups of rows that read one source.
        num_readers: Rows of each.
        capacity: Positions of a row.
        source_length: Positions of a source; 0 without sources.
    """

    num_sources: int
    num_readers: int
    capacity: int
    source_length: int = 0


class StaticStep:
    """A step of decoding, and the memory that it works on.

    Args:
        model: In evaluation mode, covered by `why_not_covered`.
        shape: Of the memory.
        recorder: Records the step.
    """

    def __init__(self, model: TextModel, shape: StepShape, recorder: Recorder) -> None:
        self.shape = shape
        self._model, self._recorder = model, recorder
        self._programs: dict[int, RecordedWork] = {}
        self._most = 0  # best tokens of a row that were asked for
        stack, device = target_stack(model), model.device
        if isinstance(stack.embedding.positions, SinusoidalPositions):
            stack.embedding.positions.reserve(shape.capacity)
        # A table of positions that grows later is another tensor: this one stays for the graph.
        self._held = [*model.parameters(), *model.buffers()]
        self.rows = StaticRows(shape.num_sources, shape.num_readers, shape.capacity, device)
        self.caches = _caches(stack, self.rows, model.compute_dtype)
        columns = 2 * shape.num_readers + 1
        self._inputs = torch.zeros(shape.num_sources, columns, dtype=torch.long, device=device)
        self.state: DecoderState | None = None
        """With the memory of the sources; None without sources."""
        if shape.source_length:
            model = cast("EncoderDecoder[DecoderState]", model)
            self.state = _source_state(model, stack, self.caches, shape)

    def load(self, slots: Tensor, sources: DecoderState, indices: Tensor) -> None:
        """Begin sources.

        Args:
            slots: The slot of each, ``[sources]``.
            sources: From the model's `init_state`.
            indices: Which of them are taken, ``[sources]``.
        """
        state = self.state
        assert state is not None
        for storage, part in zip(by_position(state), by_position(sources), strict=True):
            storage[slots, : part.shape[1]] = part[indices]  # [sources, positions, ...]
        state.lengths[slots] = sources.lengths[indices]

    def copy_from(self, other: StaticStep, slots: Tensor) -> None:
        """Continue what sources of another step, in some slots ``[sources]``, have begun."""
        num, num_positions = len(slots), min(self.shape.capacity, other.shape.capacity)
        for new, old in zip(self.caches, other.caches, strict=True):
            for name in ("keys", "values"):
                part: Tensor = getattr(old, name)[slots, :, :, :num_positions]
                getattr(new, name)[:num, :, :, :num_positions] = part
        holders = other.rows.holders[slots, :, :num_positions]
        self.rows.holders[:num, :, :num_positions] = holders
        if self.state is None or other.state is None:
            return
        for storage, part in zip(by_position(self.state), by_position(other.state), strict=True):
            storage[:num, : part.shape[1]] = part[slots]  # [sources, positions, ...]
        self.state.lengths[:num] = other.state.lengths[slots]

    def run(self, inputs: Tensor, num_best: int) -> Tensor:
        """Take a step.

        Args:
            inputs: In main memory or on the device, ``[sources, 2 * readers + 1]``: the last token
                of each row, the row of its source that it continues, and the position of these
                tokens.
            num_best: Number of best tokens of each row; 0 takes the logits.

        Returns:
            On the device; the next step may overwrite it. Logits, ``[rows, vocab]``, or the best
            `TopTokens` of each row, packed, `num_best` or more.
        """
        if num_best:
            num_best = self._most = max(num_best, self._most)
        if num_best not in self._programs:
            self._programs[num_best] = RecordedWork(self._recorder)
        self._inputs.copy_(inputs, non_blocking=True)
        return self._programs[num_best](partial(self._compute, num_best))

    def _compute(self, num_best: int) -> Tensor:
        """Compute the step from its inputs; see `run`."""
        num_readers = self.shape.num_readers
        tokens, origins, positions = self._inputs.split([num_readers, num_readers, 1], dim=1)
        self.rows.begin_step(positions[:, 0], origins)
        if self.state is None:
            decoder = cast("Decoder", self._model)
            logits = decoder.decode_step(tokens.reshape(-1, 1), LayerCaches(self.caches))
        else:
            model = cast("EncoderDecoder[DecoderState]", self._model)
            logits = model.decode_step(tokens.reshape(-1), self.state)
        if not num_best:
            return logits
        return top_tokens(logits.float(), num_best).pack()


def _caches(stack: BlockStack, rows: StaticRows, dtype: torch.dtype) -> list[StaticCache]:
    """Return the caches of the layers of a stack."""
    caches = []
    for block in stack.blocks:
        attention = self_attention_of(block)
        band = band_of(attention.pattern)
        assert band is not None
        caches.append(
            StaticCache(
                rows,
                reach=band.before,
                num_heads=attention.num_kv_heads,
                head_dim=attention.head_dim,
                dtype=dtype,
            )
        )
    return caches


def by_position(state: DecoderState) -> list[Tensor]:
    """Return what a state holds of each position of its sources, ``[sources, positions, ...]``."""
    parts = [part.transpose(1, 2) for pair in state.memory for part in pair]
    return parts if state.copy_source is None else [*parts, *state.copy_source]


def _source_state(
    model: EncoderDecoder[DecoderState],
    stack: BlockStack,
    caches: list[StaticCache],
    shape: StepShape,
) -> DecoderState:
    """Return a state with memory for sources."""
    memory = []
    blocks = [block for block in stack.blocks if isinstance(block, DecoderBlock)]
    for block, cache in zip(blocks, caches, strict=True):
        attention = block.cross_attention
        sizes = shape.num_sources, attention.num_heads, shape.source_length, attention.head_dim
        memory.append((cache.keys.new_zeros(sizes), cache.keys.new_zeros(sizes)))
    lengths = caches[0].rows.positions.new_zeros(shape.num_sources)
    copy_source = None
    if model.copy_head is not None:
        sizes = shape.num_sources, shape.source_length, model.dim
        states = caches[0].keys.new_zeros(sizes)
        exact = torch.promote_types(states.dtype, torch.float32)
        keys = states.new_zeros(sizes, dtype=exact)
        copy_source = CopySource(lengths.new_zeros(sizes[:2]), keys, states)
    return DecoderState(memory, lengths, list(caches), copy_source, readers=shape.num_readers)
