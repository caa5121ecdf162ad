"""Settings that are predicted to fit, for a run that needs more memory than there is.

Each change is tried on a model without memory (PyTorch's meta device) and named only if its run is
predicted to fit. Cost: nothing where memory is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from msgspec.structs import replace

from regard.errors import ConfigError, ResourceError
from regard.layers.attention_config import AttentionConfig
from regard.setup.config import PresetName, RunConfig
from regard.setup.estimate import (
    available_memory_bytes,
    format_size,
    kernel_bytes,
    largest_batch_tokens,
    peak_memory_bytes,
    predict_training_bytes,
)
from regard.training.device import CPU
from regard.training.distribution import ALONE, World
from regard.training.precision import compute_dtype

if TYPE_CHECKING:
    from regard.models import Model, ModelConfig
    from regard.setup.base_task import Task
    from regard.setup.training_setup import TrainingSetup
    from regard.training.training_config import Precision

ResolvePreset = Callable[[PresetName], RunConfig | None]
"""Returns the settings of the same run with another preset; None where that cannot be set."""
_SPARSE = "local:512"  # its memory is linear in the length
_FEWEST_TOKENS = 256  # of a batch that is proposed before a run
_SMALLER = 0.75  # of what a run needs: less than that is predicted to help after a failure
_PRESETS: tuple[PresetName, ...] = ("small", "tiny")
_NO_REMEDY = "No smaller preset, batch or pattern fits: free memory, or take a part of the data."


class _Change(NamedTuple):
    """A change of settings, in backticks, and the settings with it."""

    text: str
    config: RunConfig


class MemoryAdvice:
    """Finds the settings of a run that need less memory.

    Args:
        config: The settings of the run.
        task: Its task.
        vocab_size: Number of token ids; 0 where no text is read.
        resolve_preset: Returns the settings with another preset; None for a run that is resumed,
            whose settings cannot change.
        world: The processes of the run, each of which computes its shards of a batch.
        device: What computes, whose memory counts.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        vocab_size: int,
        resolve_preset: ResolvePreset | None = None,
        *,
        world: World = ALONE,
        device: torch.device = CPU,
    ) -> None:
        self._num_processes = world.num_neighbors
        self._num_ranks, self._num_parts, self._device = world.size, 1, device
        self._config, self._task, self._vocab_size = config, task, vocab_size
        self._resolve_preset = resolve_preset
        self._length = config.data.max_length  # until the data is encoded
        self._free = available_memory_bytes(self._num_processes, device)
        self._base = peak_memory_bytes(device)  # of the process without a model
        self._kernels = 0  # bytes of compiled products, where the run computes in bfloat16
        self._models: dict[tuple[ModelConfig, AttentionConfig, Precision], Model] = {}

    def require_weights(self) -> None:
        """Raise ResourceError where weights and gradients need more memory than there is."""
        needed = 2 * sum(parameter.nbytes for parameter in self._build(self._config).parameters())
        if self._free is not None and needed > self._free:
            raise ResourceError(
                f"needs about {format_size(needed)} for the weights and their gradients, "
                f"{format_size(self._free)} are free ({self._task.summarize(self._config)}).  "
                + self._describe("Fits", self._free)
            )

    def require(self, setup: TrainingSetup, *, uses_fsdp: bool = False) -> None:
        """Raise ResourceError where a run that is set up needs more memory than there is.

        Args:
            setup: The run.
            uses_fsdp: Whether each process holds a part of the model.

        Raises:
            ResourceError: It does; the message says what would fit.
        """
        self._num_parts = self._num_ranks if uses_fsdp else 1
        self._length = setup.batches.longest
        self._free = free = available_memory_bytes(self._num_processes, self._device)
        weights = sum(parameter.nbytes for parameter in setup.model.parameters())
        self._base = max(0, peak_memory_bytes(self._device) - weights)
        self._kernels = kernel_bytes(setup)
        needed = self._predict(self._config)
        if free is None or needed <= free:
            return
        attention, batch_tokens = self._config.attention, self._config.training.batch_tokens
        assert batch_tokens is not None
        cause = f"batch of {batch_tokens:,} tokens"
        pair_bytes = setup.model.attention_bytes(attention, self._length)
        if 2 * batch_tokens * pair_bytes > needed and self._with_patterns():
            cause = f"attention {attention.summary()} at length {self._length:,}"
        raise ResourceError(
            f"needs about {format_size(needed)}, {format_size(free)} are free ({cause}).  "
            + self._describe("Fits", free)
        )

    def describe(self) -> str:
        """Return a sentence with what needs clearly less than the run, after memory ran out.

        Products that are compiled later in the run are not what it ran out of at once.
        """
        self._kernels = 0
        limit = int(self._base + _SMALLER * (self._predict(self._config) - self._base))
        return self._describe(
            "Less fits", limit if self._free is None else min(limit, self._free), fewest_tokens=1
        )

    def _describe(self, purpose: str, limit: int, fewest_tokens: int = _FEWEST_TOKENS) -> str:
        """Return a sentence with the changes of settings that need at most `limit` bytes."""
        changes = self._changes(limit, fewest_tokens)
        sizes = [(change.text, self._predict(change.config)) for change in changes]
        fits = [f"{text} ({format_size(size)})" for text, size in sizes if size <= limit]
        if not fits:
            return _NO_REMEDY
        if self._resolve_preset is None:
            purpose = f"With another `output`, {purpose.lower()}"
        return f"{purpose}: {' or '.join(fits)}."

    def _changes(self, limit: int, fewest_tokens: int) -> list[_Change]:
        """Return changes that may need less; all of them together where no single one is enough."""
        patterns, presets = self._with_patterns(), self._with_presets()
        batch = self._with_smaller_batch(self._config, limit, fewest_tokens)
        changes = [*patterns, *batch, *presets, *self._without_kernels()]
        if any(self._predict(change.config) <= limit for change in changes):
            return changes
        texts, config = [], self._config
        for change in presets[-1:]:
            texts, config = [change.text], change.config
        for change in patterns[:1]:
            texts = [*texts, change.text]
            config = replace(config, attention=change.config.attention)
        for change in self._with_smaller_batch(config, limit, fewest_tokens):
            texts, config = [*texts, change.text], change.config
        return [_Change(" ".join(texts), config)]

    def _with_patterns(self) -> list[_Change]:
        """Return the settings with a pattern whose memory is linear in the length."""
        attention = self._config.attention
        sparse = attention.replace_score_dependent(_SPARSE)
        if attention == AttentionConfig():
            sparse = AttentionConfig(pattern=_SPARSE)
        names = [
            name
            for name in attention.__struct_fields__
            if getattr(attention, name) != getattr(sparse, name)
        ]
        text = " ".join(f"`attention.{name}={getattr(sparse, name)}`" for name in names)
        config = replace(self._config, attention=sparse)
        try:
            is_smaller = self._predict(config) < self._predict(self._config)
        except ConfigError:  # the family does not take the pattern
            return []
        return [_Change(text, config)] if is_smaller else []

    def _with_smaller_batch(
        self, config: RunConfig, limit: int, fewest_tokens: int
    ) -> list[_Change]:
        """Return the settings with the largest half, quarter or so of the batch that may fit."""
        batch_tokens = tokens = config.training.batch_tokens or 1
        smaller = config
        while tokens > max(fewest_tokens, self._length) and self._predict(smaller) > limit:
            tokens //= 2
            smaller = replace(config, training=replace(config.training, batch_tokens=tokens))
        return [_Change(f"`training.batch_tokens={tokens}`", smaller)] * (tokens < batch_tokens)

    def _without_kernels(self) -> list[_Change]:
        """Return the settings with float32, for whose products oneDNN compiles little."""
        config = replace(self._config, training=replace(self._config.training, precision="float32"))
        return [_Change("`training.precision=float32`", config)] if self._kernels else []

    def _with_presets(self) -> list[_Change]:
        """Return the settings with each smaller preset, the largest first."""
        if self._resolve_preset is None:
            return []
        num_weights = self._build(self._config).num_parameters
        changes = []
        for preset in _PRESETS:
            try:
                config = self._resolve_preset(preset)
            except ConfigError:  # the other settings do not fit it
                continue
            if config is not None and self._build(config).num_parameters < num_weights:
                changes.append(_Change(f"`preset={preset}`", config))
        return changes

    def _predict(self, config: RunConfig) -> int:
        """Return the peak memory of a run, in bytes."""
        model = self._build(config)
        batch_tokens = largest_batch_tokens(config.training, self._num_ranks, self._length)
        weights = sum(parameter.nbytes for parameter in model.parameters())
        training = predict_training_bytes(
            model, config.attention, batch_tokens, self._length, self._num_parts
        )
        kernels = self._kernels if model.compute_dtype == torch.bfloat16 else 0
        return self._base + weights + training + kernels

    def _build(self, config: RunConfig) -> Model:
        """Return the model of some settings, without memory for its weights."""
        key = config.model, config.attention, config.training.precision
        if key not in self._models:
            with torch.device("meta"):
                self._models[key] = self._task.build(config, self._vocab_size)
            self._models[key].compute_dtype = compute_dtype(config.training.precision)
        return self._models[key]
