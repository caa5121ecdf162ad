"""All that a run needs to resume bit-identically, on any number of processes.

``checkpoints/last.safetensors`` holds weights, their average, optimizer state and random state; its
header holds the counters as JSON. The data order and the dropout masks follow from the seed and
the counters and need no state of their own. The first process writes and reads the file; it sends
the others what they need. A model of which every process holds a part has a file of each instead
(`regard.training.sharded_checkpoint`). Either kind is read by a run of the other kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from regard.errors import NextStep, WeightsError, describe_lack_of_memory
from regard.hub.file_names import CHECKPOINTS
from regard.hub.model_folder import load_weights
from regard.hub.storage import read_state, read_tensors, stored_checksum, write_tensors
from regard.optim.sharding import is_sharded
from regard.training.checkpoint_index import INDEX, read_index, remove_others, require_sound
from regard.training.distribution import ALONE, World
from regard.training.ema import ExponentialMovingAverage
from regard.training.plan import Amount, Count, Plan, PositiveCount
from regard.training.stability_monitor import MonitorState
from regard.training.train_step import TrainStep

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


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
        in_shards: Whether batches are computed in shards, each with its own dropout, as several
            processes do; it stays so on one process.
    """

    plan: Plan
    step: Count = 0
    epoch: Count = 0
    position: Count = 0
    elapsed: Amount = 0.0
    best_score: float | None = None
    best_step: Count = 0
    best_measures: dict[str, float] = {}
    best_name: str = ""
    lowest_loss: float | None = None
    gained_step: Count = 0
    evaluations_without_gain: Count = 0
    evaluation_seconds: float = 0.0  # without what long outputs took, so it may be below 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    num_tokens: Count = 0
    train_seconds: Amount = 0.0
    interval_steps: Count = 0
    estimate: Amount = 0.0
    plan_stride: PositiveCount = msgspec.field(default=1, name="pace")
    num_passes: Amount = 0.0
    monitor: MonitorState = msgspec.field(default_factory=MonitorState)
    in_shards: bool = False

    def __post_init__(self) -> None:
        if self.step > self.plan.total_steps:
            raise ValueError(f"step {self.step:,} of a plan of {self.plan.total_steps:,}")

    @property
    def steps_before_cut(self) -> int | None:
        """Steps of the first plan, where the time was enough for less than 9 of 10; else None.

        A run that ends before the plan does, as early stopping has it, was not ended by the time.
        """
        first = self.plan.revisions[0].total_steps
        is_at_end = self.step == self.plan.total_steps and self.plan_stride == 1
        return first if is_at_end and 10 * self.step < 9 * first else None


def checkpoint_path(folder: Path) -> Path:
    """Return the path of the last checkpoint in a model folder, which need not exist.

    Returns:
        A file of tensors, or the file that names a folder of them.

    Raises:
        WeightsError: There is one of each kind, and one is damaged.
    """
    checkpoints = folder / CHECKPOINTS
    whole, index = checkpoints / "last.safetensors", checkpoints / INDEX
    if not index.exists():
        return whole
    # Both are there if a run that changed from one to the other was killed in between.
    if not whole.exists():
        return index
    step_of_whole = _summary_of(whole, read_state(whole)).step
    step_of_parts = _summary_of(index, read_index(checkpoints).state).step
    return whole if step_of_whole >= step_of_parts else index


def began_in_shards(folder: Path) -> bool:
    """Return whether the run of a model folder computes its batches in shards, by its checkpoint.

    Raises:
        WeightsError: The checkpoint is damaged.
    """
    return _read_summary(folder).in_shards


def last_saved_step(folder: Path) -> int:
    """Return the number of steps of the last checkpoint in a model folder.

    Returns:
        The number; 0 without a checkpoint that can be read.
    """
    with suppress(WeightsError, OSError):
        if checkpoint_path(folder).exists():
            return max(0, _read_summary(folder).step)
    return 0


class _Summary(msgspec.Struct):
    """Fields of `Counters`: what is asked about a checkpoint before it is read.

    Args:
        step: Steps taken, -1 where the checkpoint does not say it.
        in_shards: Whether batches are computed in shards.
    """

    step: int = -1
    in_shards: bool = False


def _read_summary(folder: Path) -> _Summary:
    path = checkpoint_path(folder)
    state = read_index(path.parent).state if path.name == INDEX else read_state(path)
    return _summary_of(path, state)


def _summary_of(path: Path, state: dict[str, object]) -> _Summary:
    try:
        return msgspec.convert(state.get("counters", {}), _Summary)
    except ValueError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> WeightsError:
    """Return the refusal of a checkpoint that is as it was written: its checksum agrees."""
    return WeightsError(
        f"{path}: damaged, or of another version of regard ({type(error).__name__}: {error}).  "
        "Restore it from a copy, resume it with the version that wrote it, or train again with "
        "another `output`."
    )


def save_checkpoint(
    folder: Path,
    counters: Counters,
    model: nn.Module,
    average: ExponentialMovingAverage,
    stepper: TrainStep,
    world: World = ALONE,
) -> Path:
    """Write the checkpoint, replacing the previous one only when the new one is complete.

    Args:
        folder: The model folder; the first process alone has to see it, unless processes hold parts
            of the model.
        counters: The progress of the run.
        model: The model.
        average: Of its weights.
        stepper: Has the state of the optimizer.
        world: The processes, which all call this.

    Returns:
        Its path.

    Raises:
        ResourceError: The disk is full; the previous checkpoint is intact.
    """
    tensors: dict[str, Tensor] = {"random": torch.get_rng_state()}
    tensors |= {f"model.{name}": value.detach() for name, value in model.named_parameters()}
    tensors |= {f"average.{name}": value for name, value in average.tensors.items()}
    tensors |= {f"optimizer.{name}": value for name, value in stepper.state().items()}
    settings = (("output", str(folder)), ("resume", "true"))
    resume = NextStep("Free some space, then", "train", (), settings)
    state = {"counters": msgspec.json.decode(msgspec.json.encode(counters))}
    path = folder / CHECKPOINTS / "last.safetensors"
    if any(is_sharded(tensor) for tensor in tensors.values()):
        from regard.training.sharded_checkpoint import write_sharded

        index = write_sharded(path.parent, tensors, state, counters.step, world, resume)
        if world.is_first:
            path.unlink(missing_ok=True)
        return index

    def write() -> None:
        if world.is_first:
            write_tensors(path, tensors, state, resume)
            remove_others(path.parent, None)

    world.together(write)
    return path


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    average: ExponentialMovingAverage,
    stepper: TrainStep,
    world: World = ALONE,
) -> Counters:
    """Restore everything that `save_checkpoint` wrote, on whatever processes.

    Args:
        folder: The model folder; the first process alone has to see it, unless processes hold parts
            of the model.
        model: The model.
        average: Of its weights.
        stepper: Gets the state of the optimizer.
        world: The processes, which all call this.

    Returns:
        The counters.

    Raises:
        WeightsError: The file is missing, damaged, or made for another model or by another version.
    """  # noqa: DOC501 - a lack of memory passes
    path = Path(world.on_first(lambda: str(checkpoint_path(folder))))
    layout = _layout(model.parameters())
    if path.name == INDEX and layout is not None:
        index = world.together(lambda: read_index(path.parent))
        require_sound(path.parent, index, world)
        from regard.training.sharded_checkpoint import read_parts

        tensors = read_parts(path.parent / index.folder, layout.mesh, layout.has, world)
        state = index.state
    else:
        tensors, state = _read_on_first(path, layout, world)
    try:
        return _restore(path, tensors, state, model, average, stepper)
    except (LookupError, ValueError, TypeError, RuntimeError) as error:
        if describe_lack_of_memory(error) is not None:
            raise
        raise _unusable(path, error) from error


def _restore(
    path: Path,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, object],
    model: nn.Module,
    average: ExponentialMovingAverage,
    stepper: TrainStep,
) -> Counters:
    """Restore what a checkpoint has; return its counters."""
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


class _Layout(NamedTuple):
    """How parameters are shared out over processes.

    Args:
        mesh: The processes.
        shapes: Shapes of these parameters; their averages, and their moments, are shared out too.
    """

    mesh: DeviceMesh
    shapes: frozenset[torch.Size]

    def has(self, shape: torch.Size, dtype: torch.dtype) -> bool:
        """Return whether a tensor of a checkpoint is shared out; states of generators are not."""
        return dtype.is_floating_point and shape in self.shapes


def _layout(parameters: Iterable[Tensor]) -> _Layout | None:
    """Return how parameters are shared out; None where every process has all of them."""
    parts = [parameter for parameter in parameters if is_sharded(parameter)]
    if not parts:
        return None
    return _Layout(parts[0].device_mesh, frozenset(part.shape for part in parts))


class _Contents(NamedTuple):
    """What a checkpoint holds.

    Args:
        tensors: By name, whole.
        state: Of the run.
        checksum: Stored with them; None where they were not read.
    """

    tensors: dict[str, Tensor]
    state: dict[str, object]
    checksum: str | None


def _read_whole(path: Path, *, check: bool) -> _Contents:
    """Read a checkpoint of either kind.

    Args:
        path: The file, or the file that names a folder.
        check: Whether to compare the content with its checksums.

    Returns:
        Its tensors, state and checksum.

    Raises:
        WeightsError: It is missing or damaged.
    """
    if path.name != INDEX:
        tensors, state = read_tensors(path, check=check)
        return _Contents(tensors, state, stored_checksum(path))
    index = read_index(path.parent)
    if check:
        require_sound(path.parent, index, ALONE)
    from regard.training.sharded_checkpoint import read_whole

    return _Contents(read_whole(path.parent / index.folder), index.state, index.checksum)


def _read_on_first(
    path: Path, layout: _Layout | None, world: World
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read a checkpoint on the first process, and send each other one what it needs of it.

    Args:
        path: The file, or the file that names a folder.
        layout: How parameters are shared out.
        world: The processes.

    Returns:
        The tensors by name, and the state.
    """

    def read() -> _Contents:
        if world.is_first:
            return _read_whole(path, check=True)
        if layout is None:  # a process that sees the folder of the first one needs not be sent it
            with suppress(WeightsError):
                return _read_whole(path, check=False)
        return _Contents({}, {}, None)

    tensors, state, checksum = world.together(read)
    checksums = world.gather(checksum)
    if layout is None and all(other == checksums[0] for other in checksums):
        return tensors, state
    entries = [
        (name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
        for name, tensor in tensors.items()
    ]
    entries, state = world.share((entries, state))
    results: dict[str, Tensor] = {}
    for name, dtype, shape in entries:
        tensor = (
            tensors.pop(name) if world.is_first else torch.empty(shape, dtype=getattr(torch, dtype))
        )
        world.send(tensor)
        if layout is not None and layout.has(tensor.shape, tensor.dtype):
            from torch.distributed.tensor import Shard, distribute_tensor

            tensor = distribute_tensor(tensor, layout.mesh, [Shard(0)], src_data_rank=None)
        results[name] = tensor
    return results, state
