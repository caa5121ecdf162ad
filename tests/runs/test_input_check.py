"""Images, recordings and series through an export, compared with the model."""

from __future__ import annotations

from tests.explain import predictors

from regard.data.readers.series_tables import read_time_series
from regard.runs import input_check
from regard.runs.text_check import Peer


def test_series_no_longer_than_the_horizon_are_not_called_texts(tmp_path, monkeypatch):
    path = predictors.write_series(tmp_path / "sales.csv")
    forecaster = predictors.forecaster()
    short = read_time_series(str(path)).series.until([forecaster.horizon])
    monkeypatch.setattr(input_check, "validation_data", lambda _: short)
    peer = Peer("regard", lambda *_: [], input_outputs=lambda *_: [])
    check = input_check.check_inputs(tmp_path, forecaster, peer)
    assert check.reason == "no series of the validation data is longer than the horizon"
    assert not check.needs_texts
