"""An epoch of windows, where the series have more of them."""

from __future__ import annotations

import numpy as np
import pytest

from regard.data.time_series import TimeIndex, TimeSeries, TimeStep
from regard.models import PatchTstConfig
from regard.tasks.forecasting import windows
from regard.tasks.forecasting.windows import Calendar, ForecastBatches, SeriesWindows


def test_an_epoch_draws_from_all_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "EPOCH_WINDOWS", 16)
    step = TimeStep(unit="row")
    series = TimeSeries(
        path="drawn.csv",
        names=["a"],
        values=[np.arange(100.0)],
        indices=[TimeIndex(start="0", step=step)],
        known=[np.zeros((100, 0))],
        observed=[np.zeros((100, 0))],
    )
    config = PatchTstConfig(window=8, horizon=4, patch=4, scaled_steps=8)
    parts = SeriesWindows(series, config, Calendar.fit(step, 100, ()), (), np.zeros((2, 0)))
    origins = np.arange(8, 96)
    batches = ForecastBatches(parts, np.zeros(88, np.int64), origins, batch_tokens=12)
    drawn = [np.concatenate(batches.order(epoch)) for epoch in range(30)]
    assert {len(rows) for rows in drawn} == {16}
    assert set(np.concatenate(drawn).tolist()) == set(range(88))
    assert batches.padding_fraction(batches.order(0)) == 0
