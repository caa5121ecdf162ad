"""The medians that a forecaster predicts for the steps after a series."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.explain.prediction import (
    Baseline,
    Feature,
    Output,
    Prediction,
    Stack,
    check_scores,
)
from regard.models import PatchTst
from regard.models.patch_tst.model import SeriesInputs


class ForecastSteps(Prediction):
    """Steps ahead, predicted from the patches of the last window of a series.

    A patch weakens towards the mean of the window, or towards 0. The calendar and the columns next
    to the series stay.

    Args:
        model: In evaluation mode.
        inputs: One window, as the model reads it.
        times: Times of the first step of each patch of the history.
        ahead: Times of the steps ahead that are explained, the first ones.
        unit: Unit of the series' values.
    """

    model: PatchTst

    def __init__(
        self,
        model: PatchTst,
        inputs: SeriesInputs,
        *,
        times: Sequence[str],
        ahead: Sequence[str],
        unit: str = "units of the series",
    ) -> None:
        config = model.config
        values, *columns = inputs
        parts = (None if part is None else part.to(model.device) for part in columns)
        inputs = SeriesInputs(values.to(model.device), *parts)
        self._inputs, self._num_steps, self.unit = inputs, len(ahead), unit
        self._num_past = config.window // config.patch
        values, is_missing = inputs.values, inputs.is_missing
        is_known = torch.ones_like(values, dtype=torch.bool) if is_missing is None else ~is_missing
        count = is_known.sum(1).clamp(min=1)
        self._mean = (values * is_known).sum(1) / count
        features = [Feature(time, "history") for time in times]
        features += [
            Feature(f"+{1 + index * config.patch} ahead", "ahead", is_special=True)
            for index in range(config.num_patches - self._num_past)
        ]
        step = torch.arange(self._num_steps)
        readout = torch.zeros(self._num_steps, len(features))
        readout[step, self._num_past + step // config.patch] = 1.0
        stacks = tuple(
            Stack(name, tuple(layers), 0, len(features)) for name, layers in model.stacks().items()
        )
        super().__init__(model, tuple(features), (), stacks=stacks, readout=readout)
        with torch.inference_mode():
            (scores,) = self.scores(self.full_weights())
        check_scores(scores, ahead)
        pairs = zip(ahead, scores.tolist(), strict=True)
        self.outputs = tuple(Output(text=time, score=score) for time, score in pairs)

    def scores(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute the medians in the units of the series; see `Prediction`."""
        rows, config = len(weights), self.model.config
        weights = weights.mean(-1) if weights.dim() == 3 else weights
        values, *columns = self._inputs
        steps = weights[:, : self._num_past].repeat_interleave(config.patch, 1)
        steps = steps.to(values.device, values.dtype)
        base = self._mean if baseline == "reference" else torch.zeros_like(self._mean)
        weakened = base + steps * (values - base)  # [rows, window]
        parts = (None if part is None else part.expand(rows, *part.shape[1:]) for part in columns)
        quantiles = self.model(weakened, *parts)  # [rows, horizon, levels]
        medians = quantiles[:, : self._num_steps, config.num_levels // 2].cpu()
        if outputs is None:
            return medians
        return medians.gather(1, outputs[:, None])[:, 0]
