"""``regard evaluate`` of a forecaster, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import regard
from regard.__main__ import main
from regard.data.time_series import TimeIndex, TimeStep
from regard.metrics import forecast_baselines

SETTINGS = (
    "forecast.horizon=6",
    "forecast.seasons=[12]",
    "model.num_members=1",
    "model.num_layers=1",
    "model.dim=8",
    "model.num_heads=1",
    "model.hidden_dim=8",
    "training.epochs=1",
)
RNG = np.random.default_rng(0)
DEMAND = 100 + 10 * np.sin(2 * np.pi * np.arange(180) / 12) + RNG.normal(size=180).round(2)


def write_series(path: Path, first: int, end: int, name: str = "demand") -> Path:
    """Write a part of a monthly series."""
    index = TimeIndex(start="2001-01-01T00:00:00", step=TimeStep(unit="month"))
    rows = zip(index.times(first, end - first), DEMAND[first:end].tolist(), strict=True)
    lines = [f"month,{name}", *(f"{time},{value}" for time, value in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of the first 150 months, of which the last 6 are its test."""
    folder = tmp_path_factory.mktemp("forecaster")
    path = write_series(folder / "train.csv", 0, 150)
    regard.train(path, folder / "model", valid="6%", test="4%", settings=SETTINGS, report=None)
    return folder


@pytest.fixture(autouse=True)
def without_mstl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_baselines, "find_spec", lambda name: None)


def evaluate(
    folder: Path, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    """Run the command, and return exit code and output."""
    code = main(["evaluate", str(folder / "model"), *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def evaluate_json(folder: Path, capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    code, out, err = evaluate(folder, capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_the_end_of_the_training_file_is_scored(folder, capsys):
    report = evaluate_json(folder, capsys, folder / "train.csv")
    assert (report["task"], report["rows"]) == ("forecasting", 1)
    assert report["first_time"] == "2013-01-01"
    assert {"mase", "wql", "coverage80"} <= set(report["scores"])
    assert report["floors"]["seasonal_naive_12_mase"] < 2
    assert report["seconds"] > 0
    assert "picture" not in report


@pytest.mark.slow
def test_a_file_of_what_comes_after_has_the_history_of_the_training_file(folder, capsys, tmp_path):
    longer = write_series(tmp_path / "longer.csv", 0, 180)
    after = write_series(tmp_path / "after.csv", 150, 180)
    whole = evaluate_json(folder, capsys, longer)
    part = evaluate_json(folder, capsys, after)
    assert (whole["rows"], whole["first_time"]) == (6, "2013-01-01")
    assert (part["rows"], part["first_time"]) == (5, "2013-07-01")
    own = {entry["time"]: entry["wql"] for entry in whole["worst"]}
    assert {entry["time"]: entry["wql"] for entry in part["worst"]} == {
        time: pytest.approx(wql) for time, wql in own.items() if time != "2013-01-01"
    }


@pytest.mark.slow
def test_a_file_without_anything_new_is_refused_and_may_be_allowed(folder, capsys, tmp_path):
    path = write_series(tmp_path / "seen.csv", 0, 144)
    code, _, err = evaluate(folder, capsys, path)
    assert code == 3
    assert "no series has 6 values after those" in err
    assert "--allow-overlap" in err
    assert evaluate_json(folder, capsys, path, "--allow-overlap")["rows"] > 10


@pytest.mark.slow
def test_a_model_is_compared_and_drawn(folder, capsys, tmp_path):
    path = write_series(tmp_path / "longer.csv", 0, 180)
    picture = tmp_path / "rolling.svg"
    words = (path, "--compare", folder / "model", "--plot", picture, "--worst", 2)
    code, out, err = evaluate(folder, capsys, *words)
    assert code == 0, err
    titles = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert titles == [
        *("Data", "Worst", "Worst", "Note", "MASE", "WQL", "80", "95", "Floors", "Verdict"),
        *("Compare", "Compare", "Rule"),
    ]
    assert "MASE +0 [+0, +0], p = 1.000" in out
    assert "<svg" in picture.read_text(encoding="utf-8")


def test_another_step_is_refused(folder, capsys, tmp_path):
    path = tmp_path / "days.csv"
    path.write_text("day,demand\n" + "".join(f"2001-01-{day:02},{day}\n" for day in range(1, 31)))
    code, _, err = evaluate(folder, capsys, path)
    assert code == 3
    assert "a row every day; the model was trained on one every month" in err
