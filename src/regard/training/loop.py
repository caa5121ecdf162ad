"""The training loop: batches in a fixed order, steps, evaluations, checkpoints, an orderly end.

Given the same configuration and data, every number that the loop computes depends on the counters
in its checkpoint only; a killed run that is resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.errors import WeightsError
from regard.training.checkpoint import Counters, checkpoint_path, save_checkpoint
from regard.training.early_stopping import EarlyStopping
from regard.training.ema import WeightAverage
from regard.training.events import Evaluated, Interrupted, Progress, Report, Saved, Warned
from regard.training.non_finite import (
    advise,
    find_non_finite,
    find_non_finite_output,
    find_non_finite_weights,
    name_some,
)
from regard.training.schedule import Budget, Speed
from regard.training.signals import Stopped, StopRequest
from regard.training.stability_monitor import Monitor, Step, largest_gradient
from regard.training.train_step import Loss, Stepping
from regard.training.training_config import TrainingConfig

_REPORT_SECONDS = 0.25
_WINDOW = 5.0  # seconds of steps, at least, by which the end of a run with a budget is moved
_WINDOW_SHARE = 0.02  # of the budget
_WORTHWHILE = 0.25  # more steps for which a run at its end goes on, per step taken


class Batches(Protocol):
    """Where batches come from."""

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch, the same for the same epoch."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Build the batch of the given rows."""
        ...


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation found.

    Args:
        measures: Figures by name.
        score_name: The figure that decides.
        is_loss: Whether lower is better.
        babble_seconds: What outputs longer than their references cost; a trained model saves it.
    """

    measures: dict[str, float]
    score_name: str
    is_loss: bool = False
    babble_seconds: float = 0.0

    @property
    def score(self) -> float:
        """The figure that decides, its sign turned where lower is better."""
        value = self.measures[self.score_name]
        return -value if self.is_loss else value


Evaluate = Callable[[WeightAverage], Evaluation]
"""Evaluates the averaged weights."""
SaveBest = Callable[[WeightAverage], None]
"""Stores the averaged weights as the model to use."""
SeedDropout = Callable[[int], None]
"""Makes the random choices of a step depend on the given number only."""
DescribeRows = Callable[[Sequence[int]], str]
"""Describes where rows are in the data, such as ``lines 12,881-12,913``."""


class Trainer:
    """Trains one model.

    Args:
        model: In training mode.
        average: Of its weights.
        stepper: Takes the steps.
        batches: Training data.
        evaluate: Called with the average at every evaluation.
        save_best: Called when an evaluation is the best so far.
        seed_dropout: Called before every step.
        describe_rows: Called where a message names the rows of a batch.
        config: Settings.
        folder: Where checkpoints go.
        on_event: Called with every event.
        budget: Where the run has one.
        start_time: Clock (``time.monotonic``) at which this session began.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        average: WeightAverage,
        stepper: Stepping,
        batches: Batches,
        evaluate: Evaluate,
        save_best: SaveBest,
        seed_dropout: SeedDropout,
        describe_rows: DescribeRows,
        config: TrainingConfig,
        folder: Path,
        on_event: Report,
        budget: Budget | None,
        start_time: float,
    ) -> None:
        self.model, self.average, self.stepper = model, average, stepper
        self.batches, self.evaluate, self.save_best = batches, evaluate, save_best
        self.seed_dropout, self.describe_rows = seed_dropout, describe_rows
        self.monitor = Monitor(model)
        self.early_stopping = EarlyStopping(config.patience if budget is None else None)
        self.config, self.folder, self.on_event, self.budget = config, folder, on_event, budget
        self._clock = start_time
        self._saved_at = self._reported_at = time.monotonic()
        self._recent_loss = math.nan
        self._order: list[NDArray[np.int64]] = []
        self._saved_step = 0
        self._good_norms: Tensor | None = None
        self._speed = Speed(max(_WINDOW, _WINDOW_SHARE * budget.seconds) if budget else math.inf)

    def run(self, counters: Counters) -> Counters:
        """Train from where the counters stand to the end of the plan, or of patience.

        Raises:
            Stopped: A signal asked for it; a checkpoint has been written.
            WeightsError: Loss or gradient is not finite; the last good state has been written.
        """
        self.model.train()
        self._saved_step = counters.step
        self._order = self.batches.order(counters.epoch)
        with StopRequest() as stop:
            while not self._is_over(counters):
                self._take_step(counters)
                if self.stepper.has_ended:
                    self.on_event(Warned(text=_ended(self.stepper.has_ended, counters)))
                    self._evaluate(counters)
                elif counters.plan.evaluates_after(counters.step):
                    self._evaluate(counters)
                elif time.monotonic() - self._saved_at > self.config.checkpoint_seconds:
                    self._save(counters)
                if stop.signum is not None:
                    self._stop(counters, stop.signum)
        return counters

    def _is_over(self, counters: Counters) -> bool:
        is_at_end = counters.step >= counters.plan.total_steps
        stops_early = self.early_stopping.should_stop(counters)
        return stops_early or is_at_end or bool(self.stepper.has_ended)

    def _take_step(self, counters: Counters) -> None:
        begun = time.perf_counter()
        number = counters.step + 1
        if counters.pace != self.stepper.pace:
            counters.plan = counters.plan.slowed(counters.step, self.stepper.pace)
            counters.pace = self.stepper.pace
        if counters.position >= len(self._order):
            counters.epoch, counters.position = counters.epoch + 1, 0
            self._order = self.batches.order(counters.epoch)
        rows = self._order[counters.position]
        self.seed_dropout(counters.step)
        batch = self.batches.batch(rows)
        self.monitor.before_step(number, ends_interval=counters.plan.evaluates_after(number))
        found, norm = self.stepper.step(batch, counters.plan.progress(counters.step))
        nll = float(found.nll)
        if not (math.isfinite(nll) and math.isfinite(norm)):
            self._refuse(counters, batch, nll, norm)
        self._watch(counters, nll, norm)
        counters.step += 1
        counters.position += 1
        counters.num_passes += self.stepper.num_passes or 1 / len(self._order)
        self.average.update(counters.step)
        seconds = time.perf_counter() - begun
        self._count(counters, found, nll, norm, seconds)
        if self._speed.add(seconds) and not counters.plan.evaluates_after(counters.step):
            self._revise(counters)

    def _watch(self, counters: Counters, nll: float, norm: float) -> None:
        """Show a sound step to the monitor, while the counters still name its batch."""
        norms = self.stepper.gradient_norms
        assert norms is not None
        step = Step(number=counters.step + 1, loss=nll, norm=norm, norms=norms)
        alarm = self.monitor.after_step(counters.monitor, step, lambda: self._batch_name(counters))
        if alarm is not None:
            self.on_event(Warned(text=alarm))
        self._good_norms = norms

    def _batch_name(self, counters: Counters) -> str:
        """Name the batch that comes next: its number in the epoch, and its rows in the data."""
        epoch = f" of epoch {counters.epoch + 1:,}" if counters.epoch else ""
        rows = self._order[counters.position].tolist()
        return f"batch {counters.position + 1:,}{epoch}, {self.describe_rows(rows)}"

    def _count(
        self, counters: Counters, found: Loss, nll: float, norm: float, seconds: float
    ) -> None:
        counters.loss_sum += nll * found.num_tokens
        counters.norm_sum += norm
        counters.num_tokens += found.num_tokens
        counters.interval_steps += 1
        counters.train_seconds += seconds
        first = math.isnan(self._recent_loss)
        self._recent_loss = nll if first else 0.95 * self._recent_loss + 0.05 * nll
        now = time.monotonic()
        counters.elapsed += now - self._clock
        self._clock = now
        if now - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now
            self.on_event(
                Progress(
                    step=counters.step,
                    total_steps=counters.plan.total_steps,
                    epoch=counters.epoch + 1,
                    loss=self._recent_loss,
                    tokens_per_second=counters.num_tokens / counters.train_seconds,
                    elapsed=counters.elapsed,
                    left=self._left(counters),
                    num_passes=counters.num_passes,
                    gradient_norm=norm,
                    is_full_batch=len(self._order) == 1 and self.stepper.num_passes > 0,
                )
            )

    def _left(self, counters: Counters) -> float:
        steps = counters.plan.total_steps - counters.step
        per_step = self._speed.seconds_per_step or self._interval_seconds(counters)
        evaluations = counters.plan.evaluations_after(counters.step)
        return steps * per_step + evaluations * counters.evaluation_seconds

    def _interval_seconds(self, counters: Counters) -> float:
        return counters.train_seconds / max(1, counters.interval_steps)

    def _evaluate(self, counters: Counters) -> None:
        begun = time.monotonic()
        self._require_finite_weights(counters)
        found = self.evaluate(self.average)
        is_best = self.early_stopping.update(counters, found.score, found.measures.get("loss"))
        if is_best:
            self.save_best(self.average)
            counters.best_measures, counters.best_name = found.measures, found.score_name
        now = time.monotonic()
        counters.evaluation_seconds = now - begun - found.babble_seconds
        counters.elapsed += now - self._clock
        self._clock = now
        planned = counters.plan.total_steps
        self._revise(counters)
        self._report_evaluation(counters, found, planned, is_best)
        counters.loss_sum = counters.norm_sum = counters.train_seconds = 0.0
        counters.num_tokens = counters.interval_steps = 0
        self._save(counters)

    def _revise(self, counters: Counters) -> None:
        """Move the end of the plan to where the time budget now puts it.

        A run at its end goes on only where the machine has become so much faster that many more
        steps fit.
        """
        if self.budget is None:
            return
        left = self.budget.steps_left(
            counters.step,
            counters.elapsed,
            seconds_per_step=self._speed.seconds_per_step or self._interval_seconds(counters),
            evaluation=counters.evaluation_seconds,
            num_evaluations=counters.plan.evaluations_after(counters.step),
        )
        end = counters.step + left
        if counters.step < counters.plan.total_steps:
            counters.plan = counters.plan.revise(counters.step, total_steps=end)
        elif left > _WORTHWHILE * counters.step:
            counters.plan = counters.plan.extend(counters.step, total_steps=end)

    def _report_evaluation(
        self, counters: Counters, found: Evaluation, planned: int, is_best: bool
    ) -> None:
        train_loss = counters.loss_sum / max(1, counters.num_tokens)
        stability, alarms = self.monitor.after_evaluation(
            counters.monitor,
            step=counters.step,
            train_loss=train_loss,
            valid_loss=found.measures.get("loss"),
        )
        self.on_event(
            Evaluated(
                step=counters.step,
                epoch=counters.epoch + 1,
                train_loss=train_loss,
                measures=found.measures,
                score=found.score,
                score_name=found.score_name,
                is_best=is_best,
                tokens_per_second=counters.num_tokens / max(1e-9, counters.train_seconds),
                gradient_norm=counters.norm_sum / max(1, counters.interval_steps),
                elapsed=counters.elapsed,
                left=self._left(counters),
                total_steps=planned,
                num_passes=counters.num_passes,
                stability=stability,
            )
        )
        for alarm in alarms:
            self.on_event(Warned(text=alarm))

    def _save(self, counters: Counters) -> Path:
        self._require_finite_weights(counters)
        path = save_checkpoint(self.folder, counters, self.model, self.average, self.stepper)
        self._saved_at, self._saved_step = time.monotonic(), counters.step
        self.on_event(Saved(path=str(path), step=counters.step))
        return path

    def _stop(self, counters: Counters, signum: int) -> None:
        """Save, leave a usable model, and end the run."""
        path = self._save(counters)
        if counters.best_score is None:
            self.save_best(self.average)
        self.on_event(Interrupted(path=str(path), step=counters.step, folder=str(self.folder)))
        raise Stopped(signum)

    def _refuse(self, counters: Counters, batch: Any, nll: float, norm: float) -> NoReturn:
        """Save what the last good step has left, and say where the numbers went wrong."""
        damaged = find_non_finite_weights(self.model)
        if not damaged:
            self._save(counters)
        is_loss = not math.isfinite(nll)
        what = f"loss is {nll}" if is_loss else f"gradient norm is {norm}"
        if damaged:
            cause = f"Not finite: weights of {name_some(damaged)}."
        elif is_loss:
            cause = self._first_non_finite(counters, batch)
        else:
            norms = self.stepper.gradient_norms
            assert norms is not None
            names = find_non_finite(self.monitor.names, norms)
            # Gradients flow from the output to the input: the last layer is where it began.
            cause = f"Not finite: gradient of {name_some(names[::-1]) or 'all layers together'}."
        where = self._batch_name(counters)
        self._give_up(counters, f"{what} at step {counters.step + 1:,} ({where})", cause)

    def _first_non_finite(self, counters: Counters, batch: Any) -> str:
        self.seed_dropout(counters.step)
        compute = self.stepper.objective
        return find_non_finite_output(self.model, lambda: compute(self.model, batch).nll)

    def _require_finite_weights(self, counters: Counters) -> None:
        """Refuse to evaluate or to save weights that a step with a finite gradient has damaged."""
        damaged = find_non_finite_weights(self.model)
        if damaged:
            what = f"weights are not finite after step {counters.step:,}"
            self._give_up(counters, what, f"Not finite: weights of {name_some(damaged)}.")

    def _give_up(self, counters: Counters, what: str, cause: str) -> NoReturn:
        """End a run that cannot go on; its last good state is on disk."""
        norms = self._good_norms
        largest = ""
        if norms is not None:
            found = largest_gradient(self.monitor.names, norms)
            largest = f"Largest gradient: {found} (step {counters.step:,}).  "
        raise WeightsError(
            f"{what}.  Last good: step {self._saved_step:,}, saved as "
            f"{checkpoint_path(self.folder)}.  {cause}  {largest}{advise(self.stepper.config)}"
        )


def _ended(why: str, counters: Counters) -> str:
    return (
        f"No further step lowers the loss at step {counters.step:,} ({why}).  The run ends here: "
        "the minimum is reached as far as the precision tells."
    )
