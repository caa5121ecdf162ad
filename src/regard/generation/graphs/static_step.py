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
        model: In evaluation mode, covered by `why_not_covered`, without a copy head.
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
            self.state = _source_state(stack, self.caches, shape)

    def load(self, slots: Tensor, sources: DecoderState, indices: Tensor) -> None:
        """Begin sources.

        Args:
            slots: The slot of each, ``[sources]``.
            sources: From the model's `init_state`.
            indices: Which of them are taken, ``[sources]``.
        """
        state = self.state
        assert state is not None
        for old, new in zip(state.memory, sources.memory, strict=True):
            for storage, part in zip(old, new, strict=True):
                storage[slots, :, : part.shape[2]] = part[indices]
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
        for new, old in zip(self.state.memory, other.state.memory, strict=True):
            for storage, part in zip(new, old, strict=True):
                storage[:num, :, : part.shape[2]] = part[slots]
        self.state.lengths[:num] = other.state.lengths[slots]

    def run(self, inputs: Tensor, num_best: int) -> Tensor:
        """Take a step.

        Args:
            inputs: In main memory or on the device, ``[sources, 2 * readers + 1]``: the last token
                of each row, the row of its source that it continues, and the position of these
                tokens.
            num_best: Number of best tokens of each row; 0 takes the logits.

        Returns:
            On the device; the next step may overwrite it. Logits, ``[rows, vocab]``, or float64
            ``[rows, 2 * k + 1]``: logits of the k best tokens, the tokens, and the log-sum-exp of
            the row; k is `num_best` or more.
        """
        if num_best:
            num_best = self._most = max(num_best, self._most)
        if num_best not in self._programs:
            work = partial(self._compute, num_best)
            self._programs[num_best] = RecordedWork(work, self._recorder)
        self._inputs.copy_(inputs, non_blocking=True)
        return self._programs[num_best]()

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
        best = top_tokens(logits.float(), num_best)
        parts = [best.logits, best.ids, best.log_sum[:, None]]
        return torch.cat([part.double() for part in parts], dim=1)


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


def _source_state(stack: BlockStack, caches: list[StaticCache], shape: StepShape) -> DecoderState:
    """Return a state with memory for sources."""
    memory = []
    blocks = [block for block in stack.blocks if isinstance(block, DecoderBlock)]
    for block, cache in zip(blocks, caches, strict=True):
        attention = block.cross_attention
        sizes = shape.num_sources, attention.num_heads, shape.source_length, attention.head_dim
        memory.append((cache.keys.new_zeros(sizes), cache.keys.new_zeros(sizes)))
    lengths = caches[0].rows.positions.new_zeros(shape.num_sources)
    return DecoderState(memory, lengths, list(caches), readers=shape.num_readers)
