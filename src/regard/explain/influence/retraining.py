"""Whether influence is right: training again without the rows that helped an output most.

The run is repeated with the same steps, batches and initial weights, but for the rows that are left
out of the batches; once with all rows, once without the most influential ones, once without as many
random ones. What random rows change is the noise of training, which influence has to exceed.

Cost: three trainings for each seed.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from regard.data.token_stream import StreamBatches
from regard.errors import ConfigError, WeightsError
from regard.explain.document import Retraining
from regard.explain.influence.influence_options import RowProgress
from regard.explain.influence.training_influence import RowInfluence
from regard.explain.prediction import ClassPrediction
from regard.hub.model_folder import ModelFolder, load_weights
from regard.setup.build import build_model
from regard.setup.fine_tuning import load_pretrained, merged_weights
from regard.setup.training_setup import RunParts, TrainingBatches, TrainingSetup
from regard.tasks import task_of
from regard.training.distribution import ALONE
from regard.training.ema import ExponentialMovingAverage
from regard.training.plan import Plan
from regard.training.steppers import build_stepper, reproducible


class TrainingLength(NamedTuple):
    """How long a run trained the weights that it kept.

    Args:
        num_steps: Steps to these weights.
        planned_steps: Steps that the plan had then; the learning rate follows from their fraction.
    """

    num_steps: int
    planned_steps: int


def training_length(folder: ModelFolder) -> TrainingLength:
    """Return how long the run in a folder trained the weights that it kept.

    Raises:
        WeightsError: The folder has no record of it.
    """
    lines = folder.read_metrics()
    finished = [line for line in lines if line.get("event") == "finished"]
    best = finished[-1]["best_step"] if finished else None  # a run that was resumed has several
    for line in reversed(lines):
        if line.get("event") == "evaluated" and line["step"] == best:
            return TrainingLength(line["step"], max(line["step"], line["total_steps"]))
    raise WeightsError(
        f"{folder.path}: no record of a finished training, which could be repeated without rows."
    )


def retrain_without(
    influence: RowInfluence,
    prediction: ClassPrediction,
    length: TrainingLength,
    *,
    num_left_out: int,
    num_seeds: int = 1,
    on_progress: RowProgress | None = None,
) -> Retraining:
    """Train again with all rows, without the most influential ones, and without random ones.

    Args:
        influence: Of the training rows on the outputs.
        prediction: The outputs.
        length: Of each training.
        num_left_out: Rows that are left out, fewer than there are.
        num_seeds: Trainings of each kind; the seeds after the first have other initial weights.
        on_progress: Hears of the steps.

    Returns:
        The log-probabilities of the outputs after each training.

    Raises:
        ConfigError: There are not as many rows, or the task cuts its text differently in each
            epoch.
    """
    setup = influence.objective.setup
    num_rows = len(influence.values)
    require_repeatable(setup, num_left_out, num_rows)
    start = time.monotonic()
    most = np.argsort(-influence.values, kind="stable")[:num_left_out]
    retrainer = Retrainer(setup, length, 3 * num_seeds, on_progress)
    scores: list[list[float]] = []
    for seed in range(num_seeds):
        random = np.random.default_rng(seed).permutation(num_rows)[:num_left_out]
        left_out = ([], influence.rows_of(most), influence.rows_of(random))
        trained = (retrainer.train_without(rows, seed) for rows in left_out)
        scores.append([score_with(prediction, weights) for weights in trained])
    complete, without_most, without_random = map(list, zip(*scores, strict=True))
    return Retraining(
        num_left_out=num_left_out,
        estimate=float(influence.values[most].sum()),
        complete=complete,
        without_most_influential=without_most,
        without_random=without_random,
        seconds=round(time.monotonic() - start, 1),
    )


def score_with(prediction: ClassPrediction, weights: Mapping[str, Tensor]) -> float:
    """Return the log-probability of the outputs of a prediction by other weights of its model."""
    other = copy.deepcopy(prediction)
    load_weights(other.model, weights, name="the weights")
    other.refresh()
    with torch.no_grad():
        return float(other.scores(other.full_weights()).sum())


def require_repeatable(setup: TrainingSetup, num_left_out: int, num_rows: int) -> None:
    """Check that a training can be repeated without some of its rows.

    Args:
        setup: The run.
        num_left_out: Rows that are left out.
        num_rows: Rows of the training data.

    Raises:
        ConfigError: There are not as many rows, the task cuts its text differently in each epoch,
            or the weights at the beginning are not known.
    """
    _require_known_beginning(setup)
    if not 0 < num_left_out < num_rows:
        raise ConfigError(f"{num_left_out:,} rows cannot be left out of {num_rows:,}.")


def _require_known_beginning(setup: TrainingSetup) -> None:
    """Raise ConfigError where batches or the weights at the beginning cannot be had again."""
    if isinstance(setup.batches, StreamBatches):
        raise ConfigError(
            "running text is cut at other places in each epoch: no part of it can be left out."
        )
    config = setup.config
    if config.tokenizer.kind == "published" and config.start_from is None:
        raise ConfigError(
            "the training began with the weights of an encoder and a decoder, of which its "
            "settings do not keep the folders: it cannot be repeated."
        )


class Retrainer:
    """Repeats the training of a model without some of its rows.

    Args:
        setup: The run.
        length: Of each training.
        count: Number of all trainings, for those who wait.
        on_progress: Hears of the steps.

    Raises:
        ConfigError: The task cuts its text differently in each epoch, or the weights at the
            beginning are not known.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        length: TrainingLength,
        count: int = 1,
        on_progress: RowProgress | None = None,
    ) -> None:
        _require_known_beginning(setup)
        self._setup, self._length, self._on_progress = setup, length, on_progress
        self._num_steps, self._total_steps = 0, count * length.num_steps

    def train_without(
        self, rows: Collection[int] | NDArray[np.int64], seed: int = 0
    ) -> dict[str, Tensor]:
        """Train from the initial weights.

        Args:
            rows: Rows of batches that are left out.
            seed: Added to that of the run.

        Returns:
            The averaged weights at the end, by their names.
        """
        device = self._setup.device
        with (
            torch.random.fork_rng([] if device.type == "cpu" else [device]),
            reproducible(self._setup.config.training, device),
        ):
            return self._train(np.asarray(rows, dtype=np.int64), seed)

    def _train(self, rows: NDArray[np.int64], seed: int) -> dict[str, Tensor]:
        setup = self._build(seed)
        model, training = setup.model, setup.config.training

        def seed_dropout(number: int) -> None:
            torch.manual_seed(training.seed * 1_000_003 + number)

        stepper, batches = build_stepper(
            model,
            setup.loss(),
            training,
            setup.config.optimizer,
            _WithoutRows(setup.batches, rows),
            seed_dropout,
            ALONE,
            dtype=model.compute_dtype,
        )
        average = ExponentialMovingAverage(model, training.average)
        epochs = itertools.chain.from_iterable(map(batches.order, itertools.count()))
        plan = Plan.from_start(self._length.planned_steps, evaluate_every=1)
        for step, batch in enumerate(itertools.islice(epochs, self._length.num_steps)):
            seed_dropout(step)
            stepper.step(batches.batch(batch), plan.progress_within(step))
            average.update(step + 1)
            self._count_step()
        return merged_weights(average.weights(), setup.config)

    def _build(self, seed: int) -> TrainingSetup:
        """Return the run with initial weights."""
        config, tokenizer = self._setup.config, self._setup.tokenizer
        training = replace(config.training, seed=config.training.seed + seed)
        config = replace(config, training=training)
        task = task_of(config)
        model = build_model(config, 0 if tokenizer is None else len(tokenizer), task)
        if config.start_from is not None:
            load_pretrained(model, config)
        parts = RunParts(
            config=config,
            dataset=self._setup.dataset,
            tokenizer=tokenizer,
            model=model.to(self._setup.device),
        )
        return task.set_up(parts, lambda _: None)

    def _count_step(self) -> None:
        self._num_steps += 1
        if self._on_progress is not None:
            self._on_progress("Training again, steps", self._num_steps, self._total_steps)


class _WithoutRows:
    """Batches from which rows are left out; all others stay where they are.

    Args:
        batches: Of the training data.
        rows: Rows of batches that are left out.
    """

    def __init__(self, batches: TrainingBatches, rows: NDArray[np.int64]) -> None:
        self._batches, self._rows = batches, rows

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch."""
        return self._without(self._batches.order(epoch))

    def in_sequence(self) -> list[NDArray[np.int64]]:
        """Return the rows of batches that cover the data once."""
        return self._without(self._batches.in_sequence())

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Build the batch of some rows."""
        return self._batches.batch(rows)

    def _without(self, all_rows: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        left = [rows[~np.isin(rows, self._rows)] for rows in all_rows]
        return [rows for rows in left if len(rows)]
