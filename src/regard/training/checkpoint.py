"""All that a run needs to resume bit-identically, in one file.

``checkpoints/last.safetensors`` holds weights, their average, optimizer state and random state; its
header holds the counters as JSON. The data order and the dropout masks follow from the seed and
the counters and need no state of their own.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from regard.errors import NextStep
from regard.hub.model_folder import load_weights
from regard.hub.storage import read_tensors, write_tensors
from regard.training.ema import ExponentialMovingAverage
from regard.training.plan import Plan
from regard.training.stability_monitor import MonitorState
from regard.training.train_step import TrainStep


class Counters(msgspec.Struct, kw_only=True):
    """The progress of a run.

    Args:
        plan: Its steps and their revisions.
        step: Optimizer steps taken.
        epoch: Index of the current pass over the data, from 0.
        position: Batches of this epoch taken.
        elapsed: Seconds of work since the run began, over all its sessions.
        best_score: Of the best evaluation; None before the first.
        best_step: Step of the best evaluation.
        best_measures: Figures of the best evaluation.
        best_name: Name of the figure that decided.
        lowest_loss: On validation data; None before the first evaluation.
        gained_step: Step at which score or loss last improved.
        evaluations_without_gain: Since score or loss last improved.
        evaluation_seconds: What the next evaluation is expected to take.
        loss_sum: Of the cross-entropy times tokens since the last evaluation, in nats.
        norm_sum: Of the gradient norms since the last evaluation.
        num_tokens: Target tokens since the last evaluation.
        train_seconds: In steps, since the last evaluation.
        interval_steps: Steps since the last evaluation.
        estimate: Seconds that were planned for the run.
        plan_stride: Number of steps of the first plan that a step now replaces.
        num_passes: Passes over the data, trial steps of line searches and products among them.
        monitor: State of the stability monitor.
    """

    plan: Plan
    step: int = 0
    epoch: int = 0
    position: int = 0
    elapsed: float = 0.0
    best_score: float | None = None
    best_step: int = 0
    best_measures: dict[str, float] = {}
    best_name: str = ""
    lowest_loss: float | None = None
    gained_step: int = 0
    evaluations_without_gain: int = 0
    evaluation_seconds: float = 0.0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    num_tokens: int = 0
    train_seconds: float = 0.0
    interval_steps: int = 0
    estimate: float = 0.0
    plan_stride: int = msgspec.field(default=1, name="pace")
    num_passes: float = 0.0
    monitor: MonitorState = msgspec.field(default_factory=MonitorState)


def checkpoint_path(folder: Path) -> Path:
    """Return the path of the last checkpoint in a model folder."""
    return folder / "checkpoints" / "last.safetensors"


def checkpoint_bytes(model: nn.Module) -> int:
    """Estimate the size of a checkpoint: weights, average, and two moments, float32 each."""
    return 4 * sum(4 * parameter.numel() for parameter in model.parameters())


def save_checkpoint(
    folder: Path,
    counters: Counters,
    model: nn.Module,
    average: ExponentialMovingAverage,
    stepper: TrainStep,
) -> Path:
    """Write the checkpoint, replacing the previous one only when the new one is complete.

    Returns:
        Its path.

    Raises:
        ResourceError: The disk is full; the previous checkpoint is intact.
    """
    tensors: dict[str, Tensor] = {"random": torch.get_rng_state()}
    tensors |= {f"model.{name}": value for name, value in model.named_parameters()}
    tensors |= {f"average.{name}": value for name, value in average.tensors.items()}
    tensors |= {f"optimizer.{name}": value for name, value in stepper.state().items()}
    path = checkpoint_path(folder)
    settings = (("output", str(folder)), ("resume", "true"))
    state = {"counters": msgspec.json.decode(msgspec.json.encode(counters))}
    write_tensors(path, tensors, state, NextStep("Free some space, then", "train", (), settings))
    return path


def load_checkpoint(
    folder: Path, model: nn.Module, average: ExponentialMovingAverage, stepper: TrainStep
) -> Counters:
    """Restore everything that `save_checkpoint` wrote.

    Returns:
        The counters.

    Raises:
        WeightsError: The file is missing, damaged, or made for another model.
    """
    path = checkpoint_path(folder)
    tensors, state = read_tensors(path)
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        if group in groups:
            groups[group][rest] = value
    load_weights(model, groups["model"], name=str(path))
    for name, value in groups["average"].items():
        average.tensors[name].copy_(value)
    stepper.load(groups["optimizer"])
    torch.set_rng_state(tensors["random"])
    counters = msgspec.convert(state["counters"], Counters)
    average.step = counters.step
    return counters
