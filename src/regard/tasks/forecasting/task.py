"""Forecasting: series of numbers -> windows -> a model of the quantiles of what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regard.data.readers.shape import DataShape
from regard.data.time_series import TimeSeries
from regard.errors import DataError, NextStep
from regard.hub.model_folder import ModelFolder
from regard.metrics.forecasts import MEDIAN, score_forecasts, window_errors
from regard.models import FORECASTERS, PatchTst, PatchTstConfig
from regard.optim import ADAMW
from regard.setup.base_task import FOLDER, Task
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.evaluation_report import TestReport
from regard.setup.training_setup import RunParts, TrainingSetup
from regard.tasks.forecasting.data import ForecastData, read_forecast_data
from regard.tasks.forecasting.linear_path import fit_linear_path
from regard.tasks.forecasting.loss import (
    QuantileLoss,
    calibrate_bands,
    forecast_measures,
    predicted_quantiles,
)
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.forecasting.rolling_origins import histories, rolling_origins, window_scales
from regard.tasks.forecasting.series_windows import EPOCH_WINDOWS, ForecastBatches
from regard.training.device import move_batch
from regard.training.evaluation_loop import LossEvaluator, time_evaluation, total_loss
from regard.training.events import OutputExample, Report
from regard.training.output_examples import choose_examples, output_example
from regard.training.training_config import OptimizerConfig, TrainingConfig

_LISTED_STEPS = 8  # of a window that is shown during training
_EVALUATED_WINDOWS = 1024  # of the validation steps, evenly spread
_BATCH_TOKENS = 8192  # patches of a batch, where nothing is trained


class ForecastSetup(TrainingSetup[ForecastData, None, PatchTst]):
    """Model, windows, loss and evaluation of a forecaster.

    Args:
        parts: Settings, data and model of the run.
        batches: Windows of the training data.
        forecaster: The predictor; it arranges held-out windows in batches.
    """

    def __init__(
        self,
        parts: RunParts[ForecastData, None, PatchTst],
        batches: ForecastBatches,
        forecaster: Forecaster,
    ) -> None:
        super().__init__(parts, batches)
        dataset = parts.dataset
        self.valid_batches = window_batches(
            forecaster, dataset.valid, dataset.train_ends, is_held_out=True
        )

    @property
    def final_evaluations(self) -> float:
        """Cost of calibration and test, in units of an evaluation."""
        return 2.0

    def loss(self) -> QuantileLoss:
        """Return the pinball loss of all quantiles."""
        return QuantileLoss()

    def evaluator(self) -> LossEvaluator:
        """Return the evaluator of the loss on the validation windows."""
        return LossEvaluator(self.model, self._measure, self._show)

    def _show(self, model: PatchTst) -> list[OutputExample]:
        """Return the medians of a few validation windows, next to what came."""
        batches, series, examples = self.valid_batches, self.dataset.valid, []
        all_rows = np.concatenate(batches.in_sequence())
        for row in all_rows[choose_examples(len(all_rows))]:
            batch = batches.batch(np.array([row]))
            quantiles = model(*move_batch(batch, model).inputs).double()[0]  # [horizon, levels]
            origin, index = int(batches.origins[row]), int(batches.rows[row])
            source = f"{series.names[index]} from {series.indices[index].times(origin, 1)[0]}"
            medians = quantiles[:, MEDIAN].tolist()
            numbers = (_list_numbers(values) for values in (medians, batch.targets[0].tolist()))
            examples.append(output_example(source, *numbers))
        return examples

    def _measure(self, model: PatchTst) -> dict[str, float]:
        total, number = total_loss(QuantileLoss(), model, self.valid_batches, self.world)
        windows = predicted_quantiles(model, self.valid_batches, self.world)
        return {"loss": total / number, **forecast_measures(*windows)}

    def evaluation_seconds(self, model: PatchTst) -> float:
        """Time a few batches of the validation windows, and scale up to both passes over them."""
        return 2 * time_evaluation(self.loss(), model, self.valid_batches, self.world)

    def calibrate(self, predictor: Forecaster) -> dict[str, float]:
        """Stretch the bands until they cover as many validation windows as they claim."""
        windows = predicted_quantiles(predictor.model, self.valid_batches, self.world)
        dataset = self.dataset
        num_steps = sum(dataset.valid_ends) - sum(dataset.train_ends)
        predictor.bands = calibrate_bands(*windows, num_steps)
        return predictor.bands

    def evaluate_test(self, predictor: Forecaster, valid: dict[str, float]) -> TestReport:
        """Score the forecasts of the test steps by rolling origins."""
        dataset = self.dataset
        quantile_loss = valid["wql"]  # NaN where every value is 0
        summary = "valid weighted quantile loss "
        summary += "unknown (only zeros)" if math.isnan(quantile_loss) else f"{quantile_loss:.4f}"
        figures: dict[str, float] = {}
        windows = rolling_origins(dataset.test, dataset.valid_ends, predictor.horizon)
        if windows:
            season = (self.config.forecast.seasons or (1,))[-1]
            scales = window_scales(dataset.test, windows, season)
            quantiles = predictor.quantiles(histories(dataset.test, windows))
            errors = window_errors([w.actual for w in windows], quantiles, scales)
            scores = score_forecasts(errors, season)
            for name in ("mase", "wql", "coverage80"):
                score = getattr(scores, name)
                if score is not None:
                    figures[name] = score.value
                    if score.low is not None:
                        figures |= {f"{name}_low": score.low, f"{name}_high": score.high}
            if "mase" in figures:
                summary += f"   test MASE({season}) {figures['mase']:.3f}"
            if "wql" in figures:
                summary += f", WQL {figures['wql']:.4f}"
            if "coverage80" in figures:
                summary += f", the 80 % band covers {figures['coverage80']:.0f} %"
        return TestReport(
            test=figures,
            summary=summary,
            suggested=[NextStep("Try", "forecast", (FOLDER, dataset.path))],
            kind=f"A forecaster of {predictor.horizon:,} steps",
            rows=dataset.describe_sizes(),
            notes="`mase` is the error of the median in units of the error of a seasonal naive "
            "forecast in the history, `wql` the weighted quantile loss on the levels 0.1 to 0.9, "
            "`coverage80` the percentage of values in the 80 % band; all by rolling origins. The "
            "bands are calibrated on the validation steps (`calibration.json`).",
            limits="The model continues what series like those of training did. A change that they "
            "never had is in no band.",
        )


class ForecastingTask(Task):
    """Forecasting of series of numbers."""

    name = "forecasting"
    purpose = "forecast series"
    inputs = "series"
    verbs = (("forecast", "series.csv"), ("evaluate", "series.csv"))
    example_data = "series.csv"
    training_data = "series with times"
    sections = frozenset({"forecast"})
    unread = Task.unread | {"max_length", "max_source_length", "drop_overlap", "allow_overlap"}
    families = FORECASTERS
    preset_table = "FORECAST_PRESETS"
    evaluation = "regard.tasks.forecasting.evaluation.evaluate_forecasts"
    loss_unit = "deviations of the window"
    has_picture = True

    @property
    def defaults(self) -> RunConfig:
        """A patched Transformer in float32: its errors are small differences of large numbers."""
        return RunConfig(
            task=self.name,
            model=PatchTstConfig(),
            training=TrainingConfig(label_smoothing=0.0, precision="float32"),
            optimizer=OptimizerConfig(name=ADAMW),
        )

    def claims(self, shape: DataShape) -> bool:
        """Whether a column of times is next to numbers."""
        return shape.has_time_column

    def read(self, options: ReadOptions) -> ForecastData:
        """Read the series and split them by time."""
        return read_forecast_data(options)

    def set_up(
        self,
        parts: RunParts[ForecastData, None, PatchTst],
        report: Report,  # noqa: ARG002 - nothing is left to say
    ) -> ForecastSetup:
        """Arrange the windows of the training steps in batches."""
        dataset = parts.dataset
        forecaster = Forecaster(parts.model, parts.config)
        first = [0] * len(dataset.train)
        batches = window_batches(
            forecaster,
            dataset.train,
            first,
            batch_tokens=parts.batch_tokens,
            seed=parts.config.training.seed,
        )
        setup = ForecastSetup(parts, batches, forecaster)
        fit_linear_path(parts.model, batches, setup.valid_batches)
        return setup

    def predictor(
        self,
        model: PatchTst,
        tokenizer: None,  # noqa: ARG002 - for text
        config: RunConfig,
    ) -> Forecaster:
        """Return the predictor of a trained model, with bands as it predicts them."""
        return Forecaster(model, config)

    def open(self, folder: str | Path, config: RunConfig | None = None) -> Forecaster:
        """Return the predictor of a model folder, with calibrated bands."""
        forecaster: Forecaster = super().open(folder, config)
        forecaster.bands = ModelFolder(folder).read_calibration()
        return forecaster


def window_batches(
    forecaster: Forecaster,
    series: TimeSeries,
    first: Sequence[int],
    *,
    batch_tokens: int = _BATCH_TOKENS,
    seed: int = 0,
    is_held_out: bool = False,
) -> ForecastBatches:
    """Return all windows of series from some step on in batches.

    Training takes windows whose history is full where a series has several, and that vary.

    Args:
        forecaster: Knows window, horizon and calendar.
        series: The series; every window ends within its series.
        first: Earliest step that is predicted, of each series.
        batch_tokens: Maximum number of patches in a batch.
        seed: Seed of the order.
        is_held_out: Whether the windows are for evaluation.

    Raises:
        DataError: The series have no window to train on.
    """
    config = forecaster.model.config
    windows = forecaster.windows(series)
    rows, origins = [], []
    for row, values in enumerate(series.values):
        last = len(values) - config.horizon
        start = first[row]
        if not is_held_out:
            is_long = last >= config.window + config.horizon
            start = config.window if is_long else min(config.horizon, max(1, last))
        candidates = np.arange(start, last + 1)
        if not is_held_out:
            candidates = candidates[windows.varies(row, candidates)]
        rows.append(np.full(len(candidates), row))
        origins.append(candidates)
    all_rows, all_origins = np.concatenate(rows), np.concatenate(origins)
    if not len(all_rows):
        raise DataError(
            f"{series.path}: no window of the training steps varies, so there is nothing to learn."
        )
    return ForecastBatches(
        windows,
        all_rows,
        all_origins,
        batch_tokens=batch_tokens,
        seed=seed,
        most=_EVALUATED_WINDOWS if is_held_out else EPOCH_WINDOWS,
    )


FORECASTING = ForecastingTask()


def _list_numbers(values: Sequence[float]) -> str:
    """Return the first of some numbers in words; a missing one is a dash.

    >>> _list_numbers([1.23456, math.nan])
    '1.235  -'
    """
    listed = ["-" if math.isnan(value) else f"{value:.4g}" for value in values[:_LISTED_STEPS]]
    return "  ".join([*listed, *["..."] * (len(values) > _LISTED_STEPS)])
