"""How long a run will take: measured on a few steps of a copy of the model."""

from __future__ import annotations

import copy
import resource
import sys
import time
from functools import partial
from pathlib import Path

import msgspec
import torch
from msgspec.structs import replace

from regard.errors import ResourceError
from regard.layers.attention_config import AttentionConfig
from regard.models.base.model import Model
from regard.setup.base_task import TrainingSetup
from regard.setup.resolve import choose_epochs
from regard.training.checkpoint import checkpoint_bytes
from regard.training.events import Planned
from regard.training.schedule import Budget, Plan
from regard.training.train_step import MiniBatchStep
from regard.training.training_config import FULL_BATCH

MEASURED_STEPS = 5
_WARMING_STEPS = 2
_EVALUATION_SHARE = 0.1  # most of a time budget that the regular evaluations may take
_WRITING_SECONDS = 2.0
_SPARSE = "local:512"  # keeps nothing by pair where texts are long
_PASSES = {"cg": 1.5, "lbfgs": 1.2, "gradient-descent": 1.3, "newton-cg": 25.0}
"""Passes over the data of a step, products counted as one each."""
_EVALUATIONS = 25  # of such a run
_MOST_STEPS = 500  # of methods that see all rows at once, without a budget


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one training step and of one evaluation, and the peak memory in bytes."""

    step_seconds: float
    evaluation_seconds: float
    memory_bytes: int


def measure(setup: TrainingSetup) -> Measured:
    """Take a few steps with a copy of the model on batches of typical sizes.

    What is drawn at random here changes nothing in the run.
    """
    with torch.random.fork_rng(devices=[]):
        return _measure(setup)


def _measure(setup: TrainingSetup) -> Measured:
    model = copy.deepcopy(setup.model)
    loss = setup.loss()
    optimizer = setup.config.optimizer
    if optimizer.name in FULL_BATCH:
        # A pass of such a method costs what an epoch of AdamW costs but for the updates.
        optimizer = replace(optimizer, name="adamw", learning_rate=optimizer.learning_rate or 1e-3)
    stepper = MiniBatchStep(model, loss, optimizer, model.compute_dtype)
    order = sorted(setup.batches.order(0), key=setup.batches.size)
    count = min(MEASURED_STEPS, len(order))
    chosen = [order[(2 * place + 1) * len(order) // (2 * count)] for place in range(count)]
    seconds = []
    for rows in [*chosen[:_WARMING_STEPS], *chosen]:
        begun = time.perf_counter()
        stepper.step(setup.batches.batch(rows), 0.0)
        seconds.append(time.perf_counter() - begun)
    timed = seconds[-count:]
    num_batches = len(order) * _PASSES.get(setup.config.optimizer.name, 1 / len(order))
    return Measured(
        step_seconds=sum(timed) / len(timed) * num_batches,
        evaluation_seconds=setup.evaluation_seconds(model),
        memory_bytes=peak_memory_bytes(),
    )


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def predict_memory_bytes(
    model: Model, attention: AttentionConfig, batch_tokens: int, length: int
) -> int:
    """Predict the peak memory of training before a step is taken.

    Counted are what the process has now, gradient, optimizer state and average (four float32
    numbers a weight), and what the backward pass keeps: about 24 numbers of size `dim` a token and
    block, and the scores and weights of attention.

    Args:
        model: Its weights and sizes.
        attention: Its patterns, or others to be tried.
        batch_tokens: Most target tokens in a batch, a sentence or more; as many source tokens are
            assumed.
        length: Longest sentence, in tokens.
    """
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    per_token = 24 * model.dim * model.num_blocks * model.compute_dtype.itemsize
    per_token += model.attention_bytes(attention, length)
    return peak_memory_bytes() + 16 * num_weights + per_token * max(batch_tokens, length)


def require_memory(setup: TrainingSetup) -> None:
    """Refuse a run that would not fit, before it starts.

    Raises:
        ResourceError: With what would fit: other patterns, a smaller batch.
    """
    free = available_memory_bytes()
    model, attention = setup.model, setup.config.attention
    batch_tokens = setup.config.training.batch_tokens
    assert batch_tokens is not None
    length = setup.batches.longest
    predict = partial(predict_memory_bytes, model, length=length)
    needed = predict(attention, batch_tokens)
    if free is None or needed <= free:
        return
    sparse, smaller = attention.replace_no_masks(_SPARSE), batch_tokens
    while smaller > max(256, length) and predict(attention, smaller) > free:
        smaller //= 2
    found = {
        _settings(attention, sparse): predict(sparse, batch_tokens),
        f"`training.batch_tokens={smaller}`": predict(attention, smaller),
    }
    fits = [f"{what} ({size / 1e9:.1f} GB)" for what, size in found.items() if size <= free]
    cause = f"batch of {batch_tokens:,} tokens"
    if 2 * batch_tokens * model.attention_bytes(attention, length) > needed and sparse != attention:
        cause = f"attention {attention.summary()} at length {length:,}"
    raise ResourceError(
        f"needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free ({cause}).  "
        + (f"Fits: {' or '.join(fits)}" if fits else "Smaller: `preset=tiny`")
    )


def _settings(given: AttentionConfig, wanted: AttentionConfig) -> str:
    """Write what turns one configuration into another, as a command line has it."""
    names = [
        name for name in given.__struct_fields__ if getattr(given, name) != getattr(wanted, name)
    ]
    return " ".join(f"`attention.{name}={getattr(wanted, name)}`" for name in names)


def available_memory_bytes() -> int | None:
    """Return the memory that this process could still take plus what it has; None if not known."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    return available + peak_memory_bytes()


def make_budget(setup: TrainingSetup) -> Budget | None:
    """Build the time budget of a run that has one."""
    training = setup.config.training
    if training.minutes is None:
        return None
    epochs = training.epochs
    return Budget(
        seconds=60.0 * training.minutes,
        reserve=_WRITING_SECONDS,
        reserved_evaluations=setup.final_evaluations,
        most_steps=None if epochs is None else epochs * _steps_per_epoch(setup),
    )


def _steps_per_epoch(setup: TrainingSetup) -> int:
    is_full_batch = setup.config.optimizer.name in _PASSES
    return 1 if is_full_batch else len(setup.batches.order(0))


def make_plan(setup: TrainingSetup, measured: Measured, elapsed: float) -> tuple[Plan, Planned]:
    """Decide the number of steps, and predict time, memory and disk.

    Args:
        setup: The run.
        measured: Its speed.
        elapsed: Seconds used so far.
    """
    training = setup.config.training
    is_full_batch = setup.config.optimizer.name in _PASSES
    steps_per_epoch = _steps_per_epoch(setup)
    budget = make_budget(setup)
    if budget is not None:
        affordable = int(_EVALUATION_SHARE * budget.seconds / measured.evaluation_seconds)
        num_evaluations = max(1, min(training.evaluations, affordable))
        steps = budget.steps_left(
            0,
            elapsed,
            seconds_per_step=measured.step_seconds,
            evaluation=measured.evaluation_seconds,
            num_evaluations=num_evaluations,
        )
        plan = Plan.from_start(steps, evaluate_every=max(1, steps // num_evaluations))
    elif is_full_batch:
        steps = training.epochs or _MOST_STEPS
        plan = Plan.from_start(steps, evaluate_every=max(1, steps // _EVALUATIONS))
    else:
        epochs = training.epochs or choose_epochs(setup.batches.num_tokens)
        plan = Plan.from_start(epochs * steps_per_epoch, evaluate_every=steps_per_epoch)
    evaluations = plan.evaluations_after(0) + setup.final_evaluations
    seconds = (
        elapsed
        + plan.total_steps * measured.step_seconds
        + evaluations * measured.evaluation_seconds
        + _WRITING_SECONDS
    )
    return plan, _describe(setup, measured, plan, steps_per_epoch, seconds)


def _describe(
    setup: TrainingSetup, measured: Measured, plan: Plan, steps_per_epoch: int, seconds: float
) -> Planned:
    training, optimizer = setup.config.training, setup.config.optimizer
    assert training.batch_tokens is not None
    weights = 4 * sum(parameter.numel() for parameter in setup.model.parameters())
    # While a checkpoint is written the previous one still stands.
    disk = 2 * checkpoint_bytes(setup.model) + weights
    return Planned(
        optimizer=optimizer.name,
        learning_rate=optimizer.learning_rate,
        batch_tokens=training.batch_tokens,
        padding_share=setup.batches.padding_fraction(setup.batches.order(0)),
        total_steps=plan.total_steps,
        steps_per_epoch=steps_per_epoch,
        seconds=seconds,
        memory_bytes=measured.memory_bytes,
        disk_bytes=disk,
        patience=0 if training.minutes is not None else training.patience,
        measured_steps=min(MEASURED_STEPS, steps_per_epoch),
    )
