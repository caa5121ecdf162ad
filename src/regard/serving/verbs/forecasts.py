"""Requests for what follows series."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any

from regard.serving.verbs.verb_service import Body, CheckClient, VerbService
from regard.tasks.forecasting.predictor import Forecast, Forecaster


class ForecastBody(Body, frozen=True, kw_only=True):
    """A request for forecasts.

    Args:
        rows: Records like the lines of the training data: time, value, and what else it had.
        horizon: Steps ahead; None is that of training.
    """

    rows: list[dict[str, Any]]
    horizon: int | None = None

    def inputs(self) -> Iterable[str]:
        """Return nothing: numbers are not counted in characters."""
        return ()


class ForecastService(VerbService[ForecastBody]):
    """Forecasts series for many requests, one after the other.

    Args:
        forecaster: The model.
    """

    body = ForecastBody

    def __init__(self, forecaster: Forecaster) -> None:
        self.forecaster, self._computing = forecaster, Lock()

    def outputs(self, body: ForecastBody, check_client: CheckClient) -> Sequence[Forecast]:
        """Forecast every series of the rows."""
        with self._computing:
            check_client()  # it may have waited long
            return self.forecaster.forecast(body.rows, body.horizon)
