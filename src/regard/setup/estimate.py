"""Predictions of time, memory and disk, from a few measured steps of a copy of the model."""

from __future__ import annotations

import copy
import math
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from math import ceil
from statistics import median_low
from typing import TYPE_CHECKING

import msgspec
import torch
from msgspec.structs import replace

from regard.data.free_memory import free_memory_bytes
from regard.optim import ADAMW
from regard.setup.resolve import choose_epochs
from regard.training.device import (
    CPU,
    describe_device,
    finish_work,
    free_device_bytes,
    peak_device_bytes,
)
from regard.training.events import Finished, Planned
from regard.training.full_batch_step import build_mini_batch
from regard.training.optimizers import needs_full_batch, record_of
from regard.training.plan import EVALUATION_FRACTION, Plan, TimeBudget
from regard.training.shards import largest_fraction
from regard.training.steppers import computes_in_shards, refuse_fsdp, sharing_of
from regard.training.training_config import OptimizerConfig, TrainingConfig

if TYPE_CHECKING:
    from regard.layers.attention_config import AttentionConfig
    from regard.models.base.model import Model
    from regard.setup.training_setup import TrainingSetup

_MEASURED_STEPS = 5
_WARMUP_STEPS = 2
_MEASURING_FRACTION = 0.2  # of the time that a budget has left, at most, for the measured steps
_LATE = 1.2  # times budget and plan: a run that took longer says what took the time
_OVERRUN = 1.1  # times a budget: a run that takes longer is reported
_WRITING_SECONDS = 2.0
_FULL_BATCH_EVALUATIONS = 25
_FEWEST_STEPS = 300  # of a run on batches that ends by itself; see docs/experiments.md
_MOST_EVALUATIONS = 60  # of such a run, as many as passes
_FULL_BATCH_STEPS = 500  # without a budget
_LIBRARY_BYTES = 75_000_000  # of the modules that PyTorch loads for FSDP2, measured
# oneDNN compiles its bfloat16 products for each shape, and keeps 1,024 of them (the default of
# ONEDNN_PRIMITIVE_CACHE_CAPACITY). Measured: about 24 for a size of batches, 0.6 MB each with what
# malloc keeps between them.
_MOST_KERNELS, _KERNELS_OF_SIZE, _KERNEL_BYTES = 1024, 24, 600_000


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of a few steps.

    Args:
        step_seconds: Seconds of one training step.
        evaluation_seconds: Seconds of one evaluation.
        memory_bytes: Peak of the process, on a GPU of the memory there.
        sum_fraction: Fraction of a step that sums over shards in a fixed order take, 0 to 1.
        checkpoint_bytes: Size of a checkpoint: weights, average, and the optimizer's state.
        num_steps: Steps that the speed is of.
    """

    step_seconds: float
    evaluation_seconds: float
    memory_bytes: int
    sum_fraction: float = 0.0
    checkpoint_bytes: int = 0
    num_steps: int = _MEASURED_STEPS


def measure(setup: TrainingSetup, *, uses_fsdp: bool = False, elapsed: float = 0.0) -> Measurement:
    """Return the speed of a few steps with a copy of the model, on batches of typical sizes.

    Restores the state of the random number generator.

    Args:
        setup: The run; all of its processes measure together.
        uses_fsdp: Whether each process holds a part of the model.
        elapsed: Seconds since the run began. Where steps are long for what a time budget has left,
            fewer are measured, one at least; processes that share a step measure all of them.
    """
    most_seconds, minutes = math.inf, setup.config.training.minutes
    if minutes is not None and not setup.world.is_shared:
        most_seconds = _MEASURING_FRACTION * (60 * minutes - elapsed)
    config = setup.config.optimizer
    batches = sorted(setup.batches.order(0), key=setup.batches.size)
    count = min(_MEASURED_STEPS, len(batches))
    measured = [batches[(2 * index + 1) * len(batches) // (2 * count)] for index in range(count)]
    seconds, device = [], setup.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model = copy.deepcopy(setup.model)
        sharing = sharing_of(setup.config.training, setup.world, uses_fsdp=uses_fsdp)
        stepper, batches_of_step = build_mini_batch(
            model, setup.loss(), _on_batches(config), setup.batches, sharing, model.compute_dtype
        )
        # The largest batch comes first, for its memory; steps before the measured ones warm up.
        rows_of_steps = [batches[-1], *measured[: _WARMUP_STEPS - 1], *measured]
        for rows in rows_of_steps:
            if len(seconds) >= _WARMUP_STEPS and sum(seconds) > most_seconds:
                break
            start = time.perf_counter()
            stepper.step(batches_of_step.batch(rows), 0.0)
            finish_work(device)
            seconds.append(time.perf_counter() - start)
        # A model of which every process holds a part cannot be copied.
        evaluation_seconds = setup.evaluation_seconds(setup.model if uses_fsdp else model)
    num_steps = max(1, len(seconds) - _WARMUP_STEPS)
    last_rows = rows_of_steps[: len(seconds)][-num_steps:]
    sizes = [max(1, setup.batches.size(rows)) for rows in last_rows]
    return Measurement(
        step_seconds=record_of(config.name).num_batches(len(batches))
        * typical_step_seconds(seconds[-num_steps:], sizes),
        evaluation_seconds=evaluation_seconds,
        memory_bytes=peak_memory_bytes(device),
        sum_fraction=stepper.sum_seconds / max(1e-9, sum(seconds)),
        checkpoint_bytes=2 * _num_bytes(model.parameters()) + _num_bytes(stepper.state().values()),
        num_steps=num_steps,
    )


def _on_batches(config: OptimizerConfig) -> OptimizerConfig:
    """Return the settings that are measured: for a method that sees all rows, those of AdamW.

    A pass of such a method takes as long as an epoch of AdamW without the updates.
    """
    if not needs_full_batch(config.name):
        return config
    return replace(config, name=ADAMW, learning_rate=config.learning_rate or 1e-3)


def _num_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the size of tensors, of which processes may hold parts."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def typical_step_seconds(seconds: Sequence[float], sizes: Sequence[int]) -> float:
    """Return the seconds of a step of mean size, by the median speed: a pause does not count.

    Args:
        seconds: Duration of each measured step.
        sizes: Tokens of each, 1 or more.

    >>> round(typical_step_seconds([0.1, 15.0, 0.3], [10, 20, 30]), 3)
    0.2
    """
    per_token = median_low(step / size for step, size in zip(seconds, sizes, strict=True))
    return per_token * sum(sizes) / len(sizes)


def peak_memory_bytes(device: torch.device = CPU) -> int:
    """Return the peak memory of this process so far: resident, or of a GPU."""
    on_device = peak_device_bytes(device)
    if on_device is not None:
        return on_device
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def chooses_fsdp(setup: TrainingSetup) -> bool:
    """Return whether each process of a run holds a part of the model (FSDP2), not all of it.

    With `training.parallel=auto` it does where the whole model is predicted not to fit in the
    memory of one of the processes.

    Raises:
        ConfigError: The settings ask for parts, and the optimizer needs the whole model.
    """
    training, optimizer, world = setup.config.training, setup.config.optimizer, setup.world
    if not world.is_shared or training.parallel == "ddp":
        return False
    if training.parallel == "fsdp":
        refuse_fsdp(training, optimizer)
        return True
    if training.deterministic or needs_full_batch(optimizer.name) or world.size == 1:
        return False
    assert training.batch_tokens is not None
    longest = setup.batches.longest
    batch_tokens = largest_batch_tokens(training, world.size, longest)
    needed = predict_training_bytes(setup.model, setup.config.attention, batch_tokens, longest)
    free = free_device_bytes(setup.device)
    in_main_memory = free_memory_bytes()
    if free is None and in_main_memory is not None:
        free = in_main_memory // world.num_neighbors
    return any(world.gather(free is not None and needed > free))


def largest_batch_tokens(training: TrainingConfig, num_processes: int, length: int) -> int:
    """Return the most tokens of a batch that one of several processes computes.

    Args:
        training: Has the size of the whole batch, and its shards.
        num_processes: Processes that share it.
        length: Longest sentence, in tokens: shards are cut by rows, and the last may be a long one.
    """
    assert training.batch_tokens is not None
    fraction = largest_fraction(training.shards, num_processes)
    if fraction == 1.0:
        return training.batch_tokens
    return min(training.batch_tokens, ceil(fraction * training.batch_tokens) + length)


def predict_training_bytes(
    model: Model, attention: AttentionConfig, batch_tokens: int, length: int, num_parts: int = 1
) -> int:
    """Return the memory that training adds to that of the weights, in bytes.

    It is that of gradient, optimizer state and average (four float32 numbers a weight), and what is
    saved for the backward pass: about 24 vectors of size `dim` a token and block, and the scores
    and weights of attention. Where processes hold parts of these numbers each has a whole copy of
    the weights all the same, first to measure steps, then to evaluate.

    Args:
        model: The model.
        attention: Its patterns, or alternatives.
        batch_tokens: Maximum number of target tokens in a batch, except for a longer sentence;
            the same number of source tokens is assumed.
        length: Longest sentence, in tokens.
        num_parts: Processes that hold a part of the model each (FSDP2); 1 for the whole model.
    """
    num_weights = model.num_parameters
    state = 16 * num_weights
    if num_parts > 1:
        evaluated = model.compute_dtype.itemsize * num_weights
        state = max(state // num_parts + evaluated, 4 * num_weights) + _LIBRARY_BYTES
    per_token = 24 * model.dim * model.num_blocks * model.compute_dtype.itemsize
    per_token += model.attention_bytes(attention, length)
    return state + per_token * max(batch_tokens, length)


def format_size(num_bytes: int) -> str:
    """Return a size in gigabytes, with one decimal where it is below 10."""
    return f"{num_bytes / 1e9:.{1 if num_bytes < 9.95e9 else 0}f}".removesuffix(".0") + " GB"


def available_memory_bytes(num_processes: int = 1, device: torch.device = CPU) -> int | None:
    """Return the memory available to this process, including what it has; None if unknown.

    Args:
        num_processes: Processes of the run on this machine, which share what is free.
        device: What computes; a GPU has memory of its own, and each process a GPU.
    """
    on_device = free_device_bytes(device)
    if on_device is not None:
        return on_device
    free = free_memory_bytes()
    return None if free is None else free // num_processes + peak_memory_bytes()


def make_budget(setup: TrainingSetup) -> TimeBudget | None:
    """Return the time budget of a run; None for a run without one."""
    training = setup.config.training
    if training.minutes is None:
        return None
    epochs = training.epochs
    return TimeBudget(
        seconds=60.0 * training.minutes,
        reserve=_WRITING_SECONDS,
        reserved_evaluations=setup.final_evaluations,
        most_steps=None if epochs is None else epochs * _steps_per_epoch(setup),
    )


def _steps_per_epoch(setup: TrainingSetup) -> int:
    is_full_batch = record_of(setup.config.optimizer.name).is_full_batch
    return 1 if is_full_batch else len(setup.batches.order(0))


def _plan_steps(
    setup: TrainingSetup, measured: Measurement, elapsed: float, steps_per_epoch: int
) -> Plan:
    """Return the steps that fit a time budget, or else the passes over the data."""
    training, budget = setup.config.training, make_budget(setup)
    if budget is not None:
        num_evaluations = budget.num_evaluations(
            measured.evaluation_seconds, most=training.evaluations
        )
        steps = budget.steps_left(
            0,
            elapsed,
            seconds_per_step=measured.step_seconds,
            evaluation=measured.evaluation_seconds,
            num_evaluations=num_evaluations,
        )
        return Plan.from_start(steps, evaluate_every=max(1, steps // num_evaluations))
    if record_of(setup.config.optimizer.name).is_full_batch:
        steps = training.epochs or _FULL_BATCH_STEPS
        return Plan.from_start(steps, evaluate_every=max(1, steps // _FULL_BATCH_EVALUATIONS))
    if training.epochs is not None:
        steps = training.epochs * steps_per_epoch
        return Plan.from_start(steps, evaluate_every=steps_per_epoch)
    epochs = choose_epochs(setup.batches.num_tokens)
    steps = max(epochs * steps_per_epoch, _FEWEST_STEPS)
    # A pass over few rows is a step or two: not each needs an evaluation.
    every = max(steps_per_epoch, -(-steps // _MOST_EVALUATIONS))
    return Plan.from_start(steps, evaluate_every=every)


def make_plan(
    setup: TrainingSetup, measured: Measurement, elapsed: float, *, uses_fsdp: bool = False
) -> tuple[Plan, Planned]:
    """Return the number of steps, and the predicted time, memory and disk space.

    Args:
        setup: The run.
        measured: Its speed.
        elapsed: Seconds since the run began.
        uses_fsdp: Whether each process holds a part of the model.
    """
    training, optimizer = setup.config.training, setup.config.optimizer
    assert training.batch_tokens is not None
    steps_per_epoch = _steps_per_epoch(setup)
    plan = _plan_steps(setup, measured, elapsed, steps_per_epoch)
    evaluations = plan.evaluations_after(0) + setup.final_evaluations
    step_seconds = plan.total_steps * measured.step_seconds
    evaluation_seconds = evaluations * measured.evaluation_seconds
    batches = setup.batches.order(0)
    return plan, Planned(
        optimizer=optimizer.name,
        learning_rate=optimizer.learning_rate,
        batch_tokens=training.batch_tokens,
        padding_share=setup.batches.padding_fraction(batches),
        total_steps=plan.total_steps,
        steps_per_epoch=steps_per_epoch,
        seconds=elapsed + step_seconds + evaluation_seconds + _WRITING_SECONDS,
        memory_bytes=measured.memory_bytes + kernel_bytes(setup),
        # While a checkpoint is written, the previous one is still there.
        disk_bytes=2 * measured.checkpoint_bytes + _num_bytes(setup.model.parameters()),
        patience=0 if training.minutes is not None else training.patience,
        measured_steps=min(measured.num_steps, steps_per_epoch),
        num_processes=setup.world.size if setup.world.is_shared else 0,
        parallel="fsdp" if uses_fsdp else "ddp",
        num_shards=training.shards if computes_in_shards(training, setup.world) else 0,
        is_deterministic=training.deterministic,
        sum_fraction=measured.sum_fraction,
        device=describe_device(setup.device),
        pass_minutes=_minutes_for_a_pass(training.minutes, plan, measured, steps_per_epoch),
        has_budget=training.minutes is not None,
    )


def describe_overrun(
    setup: TrainingSetup, planned: Planned, measured: Measurement, prepared: float
) -> str:
    """Return that a run takes longer than its budget, and why; empty if it does not.

    Args:
        setup: The run.
        planned: Its plan.
        measured: Its speed.
        prepared: Seconds until the model was built.
    """
    minutes = setup.config.training.minutes
    if minutes is None or planned.seconds <= _OVERRUN * 60 * minutes:
        return ""
    final = setup.final_evaluations * measured.evaluation_seconds
    # The plan itself says the minutes for a pass where it takes none.
    number = "" if planned.pass_minutes else f": `training.minutes={ceil(planned.seconds / 30)}`"
    return (
        f"{minutes:g} min are not enough: the run is planned to end after "
        f"{planned.seconds / 60:,.1f} min.  Reading, vocabulary, encoding and the model took "
        f"{prepared:,.0f} s; a step takes {measured.step_seconds:,.1f} s, an evaluation "
        f"{measured.evaluation_seconds:,.0f} s, and the last one {final:,.0f} s.  Name a part of "
        f"the data, or take more time{number or '.'}"
    )


def describe_late_end(
    training: TrainingConfig, finished: Finished, training_seconds: float, prepared: float | None
) -> str:
    """Return what the time of a run went into that took longer than budget and plan; else nothing.

    Args:
        training: Its settings.
        finished: Its end.
        training_seconds: For steps and evaluations.
        prepared: Seconds until the first step; None for a run that was resumed.
    """
    minutes, seconds = training.minutes, finished.seconds
    if minutes is None or seconds <= _LATE * max(60 * minutes, finished.estimate):
        return ""
    before = "" if prepared is None else f"{prepared:,.0f} s until the first step, "
    rest = seconds - training_seconds - (prepared or 0.0)
    return (
        f"{seconds / 60:,.1f} of {minutes:g} min were used: {before}{training_seconds:,.0f} s for "
        f"steps and evaluations, {rest:,.0f} s for the last evaluation and the files."
    )


def kernel_bytes(setup: TrainingSetup) -> int:
    """Return the memory of the products that oneDNN compiles while a run sees new shapes."""
    if setup.model.compute_dtype != torch.bfloat16 or setup.device.type != "cpu":
        return 0
    num_sizes = len(set(setup.batches.padded_sizes(setup.batches.order(0))))
    return _KERNEL_BYTES * min(_MOST_KERNELS, _KERNELS_OF_SIZE * num_sizes)


def _minutes_for_a_pass(
    minutes: float | None, plan: Plan, measured: Measurement, steps_per_epoch: int
) -> int:
    """Return the budget for one pass over the data; 0 for a run that makes one, or has none.

    The evaluations of a longer run take a tenth of its time at most, as in `regard.training.plan`.
    """
    missing = steps_per_epoch - plan.total_steps
    if minutes is None or missing <= 0:
        return 0
    seconds = missing * measured.step_seconds / (1 - EVALUATION_FRACTION)
    return math.ceil(minutes + seconds / 60)
