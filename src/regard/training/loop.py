"""The training loop: batches in a fixed order, steps, evaluations, checkpoints, and its end.

With the same configuration and data, every number that the loop computes depends on the counters
in its checkpoint only: a killed run that is resumed ends bit-identical to one that was not.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.errors import WeightsError
from regard.layers.dropout import masks_by_row
from regard.training.checkpoint import Counters, checkpoint_path, save_checkpoint
from regard.training.distribution import ALONE, World
from regard.training.early_stopping import EarlyStopping
from regard.training.events import (
    Diverged,
    Evaluated,
    Interrupted,
    OutputExample,
    Progress,
    Report,
    Saved,
    Warned,
)
from regard.training.non_finite import (
    ALL_FINITE,
    find_non_finite,
    find_non_finite_output,
    find_non_finite_weights,
    shorten_list,
    suggest_settings,
)
from regard.training.optimizers import record_of
from regard.training.plan import Speed, TimeBudget
from regard.training.prefetch import Prefetcher
from regard.training.shards import ShardedBatch, seed_shard
from regard.training.signals import Stopped, StopRequest
from regard.training.stability_monitor import StabilityMonitor, Step, largest_gradient
from regard.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from regard.training.ema import ExponentialMovingAverage
    from regard.training.train_step import StepOutput, TrainStep

_REPORT_SECONDS = 0.25
_WINDOW = 5.0  # seconds of steps, at least, by which the end of a run with a budget is moved
_WINDOW_FRACTION = 0.02  # of the budget
_EVALUATIONS = 3  # whose median is expected of the next: a pause in one does not count
_UNUSED_FRACTION = 0.05  # of the budget: more than this is reported where it is not used
_CHEAP_SECONDS = 1.0  # a checkpoint that takes no longer is written whenever there is reason to
_SAVING_FRACTION = 0.02  # of the time, at most, for checkpoints that take longer
_WORTHWHILE = 0.25  # more steps for which a run at its end is extended, per step taken


class Batches(Protocol):
    """The batches of an epoch."""

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch, the same for the same epoch."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Build the batch of some rows."""
        ...


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an evaluation.

    Args:
        measures: Figures by name.
        score_name: The figure that decides.
        is_loss: Whether lower is better.
        overlong_seconds: Time spent on outputs longer than their references; a trained model saves
            it.
        examples: What a few rows become.
    """

    measures: dict[str, float]
    score_name: str
    is_loss: bool = False
    overlong_seconds: float = 0.0
    examples: list[OutputExample] = []

    @property
    def score(self) -> float:
        """The figure that decides, negated where lower is better."""
        value = self.measures[self.score_name]
        return -value if self.is_loss else value


@dataclass(kw_only=True)
class Trainer:
    """Trains one model.

    Args:
        model: In training mode.
        average: Of its weights.
        stepper: Takes the steps.
        batches: Training data.
        evaluate: Evaluates the averaged weights.
        save_best: Stores the averaged weights as the model to use, where an evaluation is the best
            so far; all processes call it, and the first one writes.
        seed_dropout: Called with a step's number, so that its random choices depend on that only.
        describe_rows: Describes where rows are in the data, such as ``lines 12,881-12,913``.
        config: Settings.
        folder: Receives the checkpoints.
        on_event: Called with every event.
        budget: Where the run has one.
        start_time: Time on rank 0's clock at which this session began, the same on every rank.
        clock: Returns the time in seconds, from any origin.
        world: The processes that train together; the first one writes and reports.
    """

    model: nn.Module
    average: ExponentialMovingAverage
    stepper: TrainStep
    batches: Batches
    evaluate: Callable[[ExponentialMovingAverage], Evaluation]
    save_best: Callable[[ExponentialMovingAverage], None]
    seed_dropout: Callable[[int], None]
    describe_rows: Callable[[Sequence[int]], str]
    config: TrainingConfig
    folder: Path
    on_event: Report
    budget: TimeBudget | None
    start_time: float
    clock: Callable[[], float] = time.monotonic
    world: World = ALONE

    def __post_init__(self) -> None:
        budget = self.budget
        is_full_batch = record_of(self.stepper.config.name).is_full_batch
        self.monitor = StabilityMonitor(self.model, has_rate=not is_full_batch)
        self.early_stopping = EarlyStopping(
            patience=self.config.patience if budget is None else None,
            min_steps=0 if is_full_batch else self.config.patience_steps,  # a step may be a pass
        )
        if not self.world.is_first:
            self.on_event = lambda _: None
        self._clock = self.start_time
        self._saved_at = self._reported_at = self._now()
        self._recent_loss = math.nan
        self._order: list[NDArray[np.int64]] = []
        device = next(self.model.parameters()).device
        self._prefetcher = Prefetcher(self.batches.batch, device)
        self._saved_step = 0
        self._saving_seconds = 0.0
        self._good_norms: Tensor | None = None  # [parameters]
        window = max(_WINDOW, _WINDOW_FRACTION * budget.seconds) if budget else math.inf
        self._speed = Speed(window)
        self._evaluation_seconds: deque[float] = deque(maxlen=_EVALUATIONS)

    def run(self, counters: Counters) -> Counters:
        """Train from the counters' step to the end of the plan, or until patience is exhausted.

        Returns:
            The counters, which have been changed.

        Raises:
            Stopped: A signal asked for it; a checkpoint has been written.
            WeightsError: Loss or gradient is not finite; the last good state has been written.
        """
        self.model.train()
        self._saved_step = counters.step
        self._order = self.batches.order(counters.epoch)
        with StopRequest(catches_all=self.world.is_shared) as stop, self._prefetcher:
            while not (
                self.early_stopping.should_stop(counters)
                or counters.step >= counters.plan.total_steps
                or self.stepper.stop_reason
            ):
                self._take_step(counters)
                if self.stepper.stop_reason:
                    self._warn(
                        f"No further step lowers the loss at step {counters.step:,} "
                        f"({self.stepper.stop_reason}).  The run ends here: the minimum is reached "
                        "within the precision of the numbers."
                    )
                    self._evaluate(counters)
                elif counters.plan.evaluates_after(counters.step):
                    self._evaluate(counters)
                elif self._clock - self._saved_at > self._seconds_between(
                    self.config.checkpoint_seconds
                ):
                    self._save(counters)
                self._obey(stop, counters)
            self._report_unused_time(counters)
            self._obey(stop, counters)
        stop.raise_unseen()
        return counters

    def _obey(self, stop: StopRequest, counters: Counters) -> None:
        """Save the run and raise Stopped where a signal asked any of the processes for it."""
        signum = self.world.first_signal(stop.signum)
        if signum is None:
            return
        path = self._save(counters)
        if counters.best_score is None:  # leave a usable model
            self.save_best(self.average)
        folder = str(self.folder)
        self.on_event(Interrupted(path=str(path), step=counters.step, folder=folder))
        raise Stopped(signum)

    def _report_unused_time(self, counters: Counters) -> None:
        """Warn where a run ends long before its time budget does."""
        if self.budget is None or self.stepper.stop_reason:
            return
        unused = self.budget.seconds_left(counters.elapsed, counters.evaluation_seconds)
        if unused <= _UNUSED_FRACTION * self.budget.seconds:
            return
        has_all_epochs = counters.step == self.budget.most_steps
        reason = f"less than {_WORTHWHILE:.0%} more steps fit into it"
        if has_all_epochs:
            reason = f"`training.epochs={self.config.epochs}` ends the run"
        self._warn(f"{unused:,.0f} s of {self.budget.seconds:,.0f} s are not used: {reason}.")

    def _now(self) -> float:
        """Return the time of rank 0, so that all processes take the same decisions."""
        return self.world.clock(self.clock)

    def _take_step(self, counters: Counters) -> None:
        start = self._now()
        number = counters.step + 1
        if counters.plan_stride != self.stepper.plan_stride:
            counters.plan = counters.plan.slowed(counters.step, self.stepper.plan_stride)
            counters.plan_stride = self.stepper.plan_stride
            self._speed = Speed(self._speed.window)  # steps are of another length from here on
        if counters.position >= len(self._order):
            counters.epoch, counters.position = counters.epoch + 1, 0
            self._order = self.batches.order(counters.epoch)
        self.seed_dropout(counters.step)
        upcoming = self._order[counters.position : counters.position + 2]
        batch = self._prefetcher.batch(*upcoming)
        self.monitor.before_step(number, ends_interval=counters.plan.evaluates_after(number))
        output = self.stepper.step(batch, counters.plan.progress_within(counters.step))
        nll, norm = float(output.loss.nll), output.gradient_norm
        if not (math.isfinite(nll) and math.isfinite(norm)):
            self._refuse(counters, batch, output)
        # The monitor names the batch from the counters, so they are still those of this step.
        step = Step(number=number, loss=nll, norm=norm, norms=output.gradient_norms)
        alarm = self.monitor.after_step(counters.monitor, step, lambda: self._batch_name(counters))
        if alarm is not None:
            self._warn(alarm)
        self._good_norms = output.gradient_norms
        counters.step += 1
        counters.position += 1
        counters.num_passes += self.stepper.num_passes or 1 / len(self._order)
        self.average.update(counters.step)
        now = self._advance_clock(counters)
        ends_window = self._speed.add(now - start)
        self._count(counters, output, nll, now - start)
        # Before the last step, time that a cut plan has left over is planned again.
        is_near_end = counters.step == counters.plan.total_steps - 1
        if (ends_window or is_near_end) and not counters.plan.evaluates_after(counters.step):
            self._revise(counters)

    def _batch_name(self, counters: Counters) -> str:
        """Name the next batch: its number in the epoch, and its rows in the data."""
        epoch = f" of epoch {counters.epoch + 1:,}" if counters.epoch else ""
        rows = self._order[counters.position].tolist()
        return f"batch {counters.position + 1:,}{epoch}, {self.describe_rows(rows)}"

    def _warn(self, text: str) -> None:
        self.on_event(Warned(text=text))

    def _count(self, counters: Counters, output: StepOutput, nll: float, seconds: float) -> None:
        """Add a step to the sums of the interval, and report progress from time to time."""
        counters.loss_sum += nll * output.loss.num_tokens
        counters.norm_sum += output.gradient_norm
        counters.num_tokens += output.loss.num_tokens
        counters.interval_steps += 1
        counters.train_seconds += seconds
        is_first = math.isnan(self._recent_loss)
        self._recent_loss = nll if is_first else 0.95 * self._recent_loss + 0.05 * nll
        if self._clock - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = self._clock
            self.on_event(
                Progress(
                    step=counters.step,
                    total_steps=counters.plan.total_steps,
                    epoch=counters.epoch + 1,
                    loss=self._recent_loss,
                    tokens_per_second=counters.num_tokens / counters.train_seconds,
                    elapsed=counters.elapsed,
                    left=self._seconds_left(counters),
                    num_passes=counters.num_passes,
                    gradient_norm=output.gradient_norm,
                    is_full_batch=len(self._order) == 1 and self.stepper.num_passes > 0,
                    learning_rate=self.stepper.learning_rate,
                )
            )

    def _advance_clock(self, counters: Counters) -> float:
        """Add the time since the last call to the elapsed seconds; return the time now."""
        now = self._now()
        counters.elapsed += now - self._clock
        self._clock = now
        return now

    def _seconds_left(self, counters: Counters) -> float:
        steps = counters.plan.total_steps - counters.step
        evaluations = counters.plan.evaluations_after(counters.step)
        evaluation_seconds = evaluations * counters.evaluation_seconds
        return steps * self._speed.seconds_per_step + evaluation_seconds

    def _evaluate(self, counters: Counters) -> None:
        start = self._now()
        self._require_finite_weights(counters)
        evaluation = self.evaluate(self.average)
        if self.world.is_shared:  # it has times that were measured
            shared = self.world.share(msgspec.to_builtins(evaluation))
            evaluation = msgspec.convert(shared, Evaluation)
        measures = evaluation.measures
        is_best = self.early_stopping.update(counters, evaluation.score, measures.get("loss"))
        if is_best:
            self.save_best(self.average)
            counters.best_measures, counters.best_name = measures, evaluation.score_name
        now = self._advance_clock(counters)
        if not self._evaluation_seconds:
            self._evaluation_seconds.append(counters.evaluation_seconds)  # as it was measured first
        self._evaluation_seconds.append(now - start - evaluation.overlong_seconds)
        counters.evaluation_seconds = median_low(self._evaluation_seconds)
        total_steps = counters.plan.total_steps  # before the revision
        self._revise(counters)
        train_loss = counters.loss_sum / max(1, counters.num_tokens)
        stability, alarms = self.monitor.after_evaluation(
            counters.monitor,
            step=counters.step,
            train_loss=train_loss,
            valid_loss=measures.get("loss"),
        )
        self.on_event(
            Evaluated(
                step=counters.step,
                epoch=counters.epoch + 1,
                train_loss=train_loss,
                measures=measures,
                score=evaluation.score,
                score_name=evaluation.score_name,
                is_best=is_best,
                tokens_per_second=counters.num_tokens / max(1e-9, counters.train_seconds),
                gradient_norm=counters.norm_sum / max(1, counters.interval_steps),
                elapsed=counters.elapsed,
                left=self._seconds_left(counters),
                total_steps=total_steps,
                num_passes=counters.num_passes,
                learning_rate=self.stepper.learning_rate,
                stability=stability,
                examples=evaluation.examples,
            )
        )
        for alarm in alarms:
            self._warn(alarm)
        counters.loss_sum = counters.norm_sum = counters.train_seconds = 0.0
        counters.num_tokens = counters.interval_steps = 0
        is_end = counters.step >= counters.plan.total_steps or bool(self.stepper.stop_reason)
        if is_end or self._clock - self._saved_at >= self._seconds_between(0.0):
            self._save(counters)

    def _revise(self, counters: Counters) -> None:
        """Move the end of the plan to what the time budget allows.

        A run at its end is extended where many more steps fit, since the machine has become faster
        or an earlier revision has cut the plan too short.
        """
        if self.budget is None:
            return
        steps_left = self.budget.steps_left(
            counters.step,
            counters.elapsed,
            seconds_per_step=self._speed.seconds_per_step,
            evaluation=counters.evaluation_seconds,
            num_evaluations=counters.plan.evaluations_after(counters.step),
        )
        step, end, plan = counters.step, counters.step + steps_left, counters.plan
        if plan.total_steps - step <= 1 and steps_left > _WORTHWHILE * step:
            plan = plan.extend(step, total_steps=end)
        elif step < plan.total_steps:
            plan = plan.revise(step, total_steps=end)
        affordable = self.budget.num_evaluations(
            counters.evaluation_seconds, most=self.config.evaluations
        )
        counters.plan = plan.with_fewer_evaluations(2 * affordable)

    def _save(self, counters: Counters) -> Path:
        self._require_finite_weights(counters)
        start = self._now()
        path = save_checkpoint(
            self.folder, counters, self.model, self.average, self.stepper, self.world
        )
        self._saved_at, self._saved_step = self._now(), counters.step
        self._saving_seconds = self._saved_at - start
        self.on_event(Saved(path=str(path), step=counters.step))
        return path

    def _seconds_between(self, least: float) -> float:
        """Return the seconds from one checkpoint to the next, by what one takes to write.

        Args:
            least: Where that is short.
        """
        if self._saving_seconds <= _CHEAP_SECONDS:
            return least
        return max(least, self._saving_seconds / _SAVING_FRACTION)

    def _refuse(self, counters: Counters, batch: Any, output: StepOutput) -> NoReturn:
        """Save the state after the last good step, and report where numbers became non-finite."""
        damaged = find_non_finite_weights(self.model)
        if not damaged:
            self._save(counters)
        nll = float(output.loss.nll)
        problem = f"gradient norm is {output.gradient_norm}"
        if not math.isfinite(nll):
            problem = f"loss is {nll}"
        if damaged:
            cause = f"Not finite: weights of {shorten_list(damaged)}."
        elif not math.isfinite(nll):
            self.seed_dropout(counters.step)
            cause = self._find_non_finite_output(batch)
        else:
            # Gradients flow from the output to the input: the last layer is where it began.
            names = find_non_finite(self.monitor.names, output.gradient_norms)[::-1]
            cause = f"Not finite: gradient of {shorten_list(names) or 'all layers together'}."
        batch_name = self._batch_name(counters)
        problem = f"{problem} at step {counters.step + 1:,} ({batch_name})"
        self._give_up(counters, problem, cause, counters.step + 1)

    def _find_non_finite_output(self, batch: Any) -> str:
        """Return the first layer whose output is not finite, of the first process that has one."""
        compute, model = self.stepper.loss_function, self.model

        def recompute() -> Tensor:
            if not isinstance(batch, ShardedBatch):
                return compute(model, batch).nll
            seed = torch.default_generator.initial_seed()
            losses = []
            for shard in batch.shards:
                seed_shard(seed, shard)
                with masks_by_row(shard.rows):
                    losses.append(compute(model, shard.batch).nll)
            return torch.stack(losses).sum()

        causes = self.world.gather(find_non_finite_output(model, recompute))
        return next((cause for cause in causes if cause != ALL_FINITE), ALL_FINITE)

    def _require_finite_weights(self, counters: Counters) -> None:
        """Refuse to evaluate or to save weights that a step with a finite gradient has damaged."""
        damaged = find_non_finite_weights(self.model)
        if damaged:
            problem = f"weights are not finite after step {counters.step:,}"
            cause = f"Not finite: weights of {shorten_list(damaged)}."
            self._give_up(counters, problem, cause, counters.step)

    def _give_up(self, counters: Counters, problem: str, cause: str, step: int) -> NoReturn:
        """End a run that cannot continue after a step; its last good state is on disk."""
        stability = self.monitor.after_failure(counters.monitor)
        self.on_event(Diverged(step=step, problem=problem, cause=cause, stability=stability))
        largest = ""
        if self._good_norms is not None:
            name = largest_gradient(self.monitor.names, self._good_norms)
            largest = f"Largest gradient: {name} (step {counters.step:,}).  "
        raise WeightsError(
            f"{problem}.  Last good: step {self._saved_step:,}, saved as "
            f"{checkpoint_path(self.folder)}.  {cause}  {largest}"
            f"{suggest_settings(self.stepper.config)}"
        )
