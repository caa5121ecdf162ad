"""Runs that learn to forecast: from a file of series to forecasts, as a user calls them."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regard
from regard.__main__ import main
from regard.data.readers.series_tables import read_time_series
from regard.errors import ConfigError, DataError
from regard.runs.run import resume, train
from regard.setup.config import DataConfig, ForecastConfig
from regard.setup.dataset import ReadOptions
from regard.tasks.forecasting.data import read_forecast_data
from regard.training.events import Evaluated
from regard.training.signals import Stopped, request_stop

SETTINGS = (
    "model.dim=8",
    "model.hidden_dim=8",
    "model.num_heads=2",
    "model.num_layers=1",
    "model.num_members=1",
    "optimizer.learning_rate=0.004",
    "training.batch_tokens=256",
    "training.epochs=2",
)


def run(capsys, *words: Any) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def season(number: int, *, noise: float = 0.1, seed: int = 0, level: float = 10.0) -> np.ndarray:
    """Return hours with a daily season, ``[number]``."""
    hours = np.arange(number)
    rng = np.random.default_rng(seed)
    return level + 3 * np.sin(2 * np.pi * hours / 24) + noise * rng.normal(size=number)


def write(path: Path, columns: dict[str, Any], *, first: str = "2024-01-01T00") -> Path:
    """Write hourly columns; None is an empty cell."""
    start, hour = np.datetime64(first), np.timedelta64(1, "h")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *columns])
        for row, cells in enumerate(zip(*columns.values(), strict=True)):
            texts = ["" if x is None or np.isnan(x) else f"{x:.6g}" for x in cells]
            writer.writerow([str(start + row * hour).replace("T", " ") + ":00", *texts])
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "demand.csv", {"demand": season(400)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data) -> Path:
    path = tmp_path_factory.mktemp("models") / "demand"
    train(data, path, settings=SETTINGS)
    return path


def forecast(folder: Path, data: Path, capsys, *words: Any) -> list[list[str]]:
    code, out, err = run(capsys, "forecast", folder, data, *words)
    assert code == 0, err
    return list(csv.reader(out.splitlines()))


def read(path: Path, **settings: Any):
    forecast_settings = ForecastConfig(**settings)
    return read_forecast_data(
        ReadOptions(data=DataConfig(path=str(path)), seed=1, forecast=forecast_settings)
    )


def test_a_season_is_forecast_and_its_band_has_what_comes(folder, capsys, data):
    rows = forecast(folder, data, capsys)
    assert rows[0][:4] == ["series", "time", "median", "0.025"]
    assert (rows[1][1], rows[-1][1], len(rows)) == ("2024-01-17 16:00", "2024-01-18 15:00", 25)
    expected = season(424, noise=0)[400:]
    values = np.array([[float(cell) for cell in row[2:]] for row in rows[1:]])
    assert np.abs(values[:, 0] - expected).max() < 0.5
    assert np.mean((values[:, 1] < expected) & (expected < values[:, -1])) > 0.8
    assert (np.diff(values[:, 1:], axis=1) >= 0).all()


def test_a_shorter_horizon_is_the_beginning_and_a_longer_one_is_refused(folder, data, capsys):
    whole, part = forecast(folder, data, capsys), forecast(folder, data, capsys, "--horizon", 5)
    assert part == whole[:6]
    code, _, err = run(capsys, "forecast", folder, data, "--horizon", 25)
    assert code == 2
    assert "predict 24 steps" in err
    assert "--horizon 25" in err


def test_a_series_shorter_than_the_window_is_named(folder, tmp_path, capsys):
    window = regard.load(folder).model.config.window
    short = write(tmp_path / "short.csv", {"demand": season(window - 1)})
    _, _, err = run(capsys, "forecast", folder, short)
    assert f"fewer values than the {window} that the model reads: demand ({window - 1})." in err
    enough = write(tmp_path / "enough.csv", {"demand": season(window)})
    assert "fewer values" not in run(capsys, "forecast", folder, enough)[2]


def test_python_and_standard_input_give_what_the_file_gives(folder, data, capsys, monkeypatch):
    code, out, _ = run(capsys, "forecast", folder, data, "--json")
    assert code == 0
    (expected,) = (json.loads(line) for line in out.splitlines())
    assert expected["series"] == "demand"
    assert set(expected["quantiles"]) >= {"0.1", "0.5", "0.9"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.read_bytes()), "utf-8"))
    assert json.loads(run(capsys, "forecast", folder, "-", "--json")[1]) == expected
    (result,) = regard.load(folder).forecast(data)
    assert (result.time, result.median) == (expected["time"], expected["median"])
    with data.open() as file:
        records = [{**row, "demand": float(row["demand"])} for row in csv.DictReader(file)]
    (in_memory,) = regard.load(folder).forecast(records)
    np.testing.assert_allclose(in_memory.median, result.median)


def test_a_picture_and_tables_are_written_by_their_names(folder, data, capsys, tmp_path):
    for name, start in (("a.csv", b"series,time"), ("a.tsv", b"series\ttime"), ("a.jsonl", b"{")):
        assert run(capsys, "forecast", folder, data, "-o", tmp_path / name)[0] == 0
        assert (tmp_path / name).read_bytes().startswith(start)
    code, _, err = run(capsys, "forecast", folder, data, "-o", tmp_path / "a.xlsx")
    assert code == 2
    assert (
        "a.xlsx: a name that ends in one of .csv, .tsv, .json, .jsonl, .svg, .png, .pdf was" in err
    )
    code, _, err = run(capsys, "forecast", folder, data, "--json", "-o", tmp_path / "b.csv")
    assert code == 2
    assert "b.csv: --json writes JSON lines.  Name a .jsonl file." in err


@pytest.mark.slow
def test_a_run_that_was_stopped_resumes_to_the_same_weights(tmp_path, data, folder):
    def stop_at_the_first(event: object) -> None:
        if isinstance(event, Evaluated):
            request_stop()

    with pytest.raises(Stopped):
        train(data, tmp_path / "m", settings=SETTINGS, report=stop_at_the_first)
    resume(tmp_path / "m")
    weights = (folder / "model.safetensors").read_bytes()
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == weights


def test_the_bands_are_calibrated_and_kept(folder):
    calibration = json.loads((folder / "calibration.json").read_text())
    assert set(calibration) == {"band_20", "band_40", "band_60", "band_80", "band_95"}
    assert regard.load(folder).bands == calibration


def test_nothing_after_the_training_steps_decides_a_setting(tmp_path):
    values = season(400)
    others = values.copy()
    others[340:] *= 1000
    first, second = (
        read(write(tmp_path / f"{name}.csv", {"y": part}))
        for name, part in (("a", values), ("b", others))
    )
    assert first.train_ends == [328]
    assert first.forecast == second.forecast
    assert first.dimensions == second.dimensions
    np.testing.assert_array_equal(first.train.values[0], second.train.values[0])


def test_the_settings_that_the_data_decides_are_kept_in_the_folder(folder):
    config = regard.load(folder).config
    assert (config.forecast.horizon, config.forecast.seasons) == (24, (24,))
    assert (config.forecast.step, config.forecast.cycles) == ("hour", ("day",))
    assert config.model.horizon == 24


@pytest.mark.slow
def test_columns_known_ahead_are_read_for_the_future(tmp_path, capsys):
    rng = np.random.default_rng(3)
    holiday = (rng.random(424) < 0.1).astype(float)
    values = [*(season(400, noise=0.05) + 5 * holiday[:400]), *[None] * 24]
    file = write(tmp_path / "a.csv", {"y": values, "holiday": holiday})
    model = tmp_path / "m"
    settings = (*SETTINGS, "forecast.known=holiday", "training.epochs=8")
    settings = (*settings, "optimizer.learning_rate=0.03", "training.average=0.9")
    train(file, model, settings=settings)
    code, out, err = run(capsys, "forecast", model, file, "--json")
    assert code == 0, err
    median = np.array(json.loads(out)["median"])
    extra = median - season(424, noise=0)[400:]
    is_holiday = holiday[400:] > 0
    assert extra[is_holiday].mean() - extra[~is_holiday].mean() > 1
    short = write(tmp_path / "b.csv", {"y": values[:400], "holiday": holiday[:400]})
    code, _, err = run(capsys, "forecast", model, short)
    assert code == 3
    assert "holiday must be known 24 steps after the last value" in err
    without = write(tmp_path / "c.csv", {"y": values[:400]})
    code, _, err = run(capsys, "forecast", model, without)
    assert (code, "holiday" in err) == (3, True)


def test_what_was_made_of_a_file_is_said_next_to_its_forecasts(folder, tmp_path, capsys):
    lines = write(tmp_path / "a.csv", {"y": season(90)}).read_text().splitlines()
    repeated = tmp_path / "b.csv"
    repeated.write_text("\n".join([*lines[:10], lines[9], *lines[11:], "Source: the meter"]) + "\n")
    code, _, err = run(capsys, "forecast", folder, repeated)
    assert code == 0
    assert err.splitlines() == [
        f"regard: note: {repeated}: {note}."
        for note in (
            "read as time series every hour, columns time, y",
            "1 time has no row: its value is missing (first: 2024-01-01 09:00)",
            "1 dropped: repeats the time of another row",
            "1 dropped: not a row of the table",
        )
    ]


def test_a_file_of_another_step_is_refused(folder, tmp_path, capsys):
    times = np.datetime64("2024-01-01") + np.arange(60).astype("m8[D]")
    rows = "".join(f"{time},{1 + day % 3}\n" for day, time in enumerate(times))
    (tmp_path / "days.csv").write_text("time,demand\n" + rows)
    code, _, err = run(capsys, "forecast", folder, tmp_path / "days.csv")
    assert code == 3
    assert "a row every day; the model was trained on one every hour" in err


def test_a_series_shorter_than_the_window_is_forecast(folder, tmp_path, capsys):
    file = write(tmp_path / "short.csv", {"demand": season(30)})
    assert len(forecast(folder, file, capsys)) == 25


@pytest.mark.slow
def test_gaps_of_a_tenth_are_noted_and_forecast_all_the_same(tmp_path, capsys):
    values = season(400)
    values[np.random.default_rng(1).random(400) < 0.1] = math.nan
    file = write(tmp_path / "gaps.csv", {"y": values})
    train(file, tmp_path / "m", settings=SETTINGS)
    rows = forecast(tmp_path / "m", file, capsys)
    found = np.array([float(row[2]) for row in rows[1:]])
    assert np.abs(found - season(424, noise=0)[400:]).mean() < 0.6


@pytest.mark.slow
def test_series_of_different_lengths_are_one_run(tmp_path, capsys):
    lines = ["day,shop,sales"]
    start, one_day = np.datetime64("2024-01-01"), np.timedelta64(1, "D")
    for shop, (length, level) in enumerate([(150, 1.0), (60, 100.0), (10, 5.0), (90, 1e4)]):
        for day in range(length):
            value = level * (2 + math.sin(2 * math.pi * day / 7))
            lines.append(f"{start + day * one_day},shop {shop},{value:.6g}")
    file = tmp_path / "shops.csv"
    file.write_text("\n".join(lines))
    data = read(file)
    assert len(data.test) == 4
    assert "1 series are too short" in " ".join(data.warnings())
    train(file, tmp_path / "m", settings=SETTINGS)
    rows = forecast(tmp_path / "m", file, capsys)[1:]
    levels = {shop: float(median) for shop, _, median, *_ in rows[::7]}
    assert levels["shop 3"] > 100 * levels["shop 0"]
    assert len({shop for shop, *_ in rows}) == 4


def test_a_constant_series_has_nothing_to_learn(tmp_path):
    file = write(tmp_path / "c.csv", {"y": np.full(300, 5.0)})
    with pytest.raises(DataError, match="nothing to learn"):
        train(file, tmp_path / "m", settings=SETTINGS)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (("data.test=other.csv",), "the end of the same file"),
        (("forecast.horizon=0",), "forecast.horizon"),
        (("forecast.seasons=1",), "seasons must be 2 or more"),
        (("forecast.known=holliday",), "holliday"),
        (("forecast.horizon=200",), "too few to learn from"),
        (("forecast.horizon=10", "model.horizon=12"), "model.horizon=12"),
        (("forecast.horizn=10",), "horizon"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(tmp_path, data, settings, text):
    (data.parent / "other.csv").write_text(data.read_text())
    settings = [item.replace("other.csv", str(data.parent / "other.csv")) for item in settings]
    with pytest.raises((ConfigError, DataError), match=text):
        train(data, tmp_path / "m", settings=(*SETTINGS, *settings))


def test_check_says_what_was_found(capsys, data):
    code, out, _ = run(capsys, "check", data)
    assert code == 0
    assert "1 series, every hour, season 24, 24 steps ahead" in out
    assert "2024-01-01 00:00 to 2024-01-17 15:00" in out
    report = json.loads(run(capsys, "check", data, "--json")[1])
    assert (report["seasons"], report["horizon"], report["step"]) == ([24], 24, "hour")


@pytest.mark.parametrize(
    ("columns", "settings", "contents"),
    [
        ({"demand": season(400)}, {}, "season 24, 24 steps ahead"),
        (
            {"demand": season(100)},
            {},
            "season 24 (longer than the window of 22 steps), 8 steps ahead, a tenth of the series",
        ),
        (
            {"demand": season(100)},
            {"horizon": 12},
            "season 24 (longer than the window of 20 steps), 12 steps ahead",
        ),
        (
            {"demand": np.random.default_rng(0).normal(size=200)},
            {},
            "no season, 17 steps ahead, a tenth of the series",
        ),
        (
            {"demand": np.arange(5)},
            {},
            "no season, 1 step ahead, a tenth of the series",
        ),
    ],
    ids=["long", "short", "set", "without a season", "shortest"],
)
def test_what_short_series_cannot_have_is_said(tmp_path, columns, settings, contents):
    found = read(write(tmp_path / "series.csv", columns), **settings)
    assert found.contents == f"1 series, every hour, {contents}"
    assert found.details().fields["is_horizon_cut"] == ("a tenth" in contents)


def test_a_column_of_noise_does_not_hide_the_season_of_the_other(tmp_path, capsys):
    noise = np.random.default_rng(1).normal(size=400)
    path = write(tmp_path / "two.csv", {"demand": season(400), "noise": noise})
    assert read(path).forecast.seasons == (24,)
    assert "Seasons 24 in 1 of 2 series" in run(capsys, "check", path)[1]


def test_a_picture_shows_the_band_and_the_name(folder, data, tmp_path):
    forecaster = regard.load(folder)
    file = read_time_series(data)
    forecaster.draw(file, forecaster.forecast(file), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "demand" in text
    assert "80 % band" in text


def test_a_model_of_another_task_does_not_forecast(trained, data, capsys):
    code, _, err = run(capsys, "forecast", trained, data)
    assert code == 4
    assert "does not forecast series" in err


@pytest.mark.slow
def test_a_trained_forecaster_is_trained_further(folder, data, tmp_path):
    longer = write(tmp_path / "b.csv", {"demand": season(500, seed=4)})
    model = regard.train(longer, tmp_path / "m", start_from=folder, settings=["training.epochs=1"])
    assert model.config.forecast.seasons == (24,)
    shutil.rmtree(tmp_path / "m")
    with pytest.raises(ConfigError, match=r"forecast\.horizon=12"):
        settings = ["training.epochs=1", "forecast.horizon=12"]
        regard.train(longer, tmp_path / "m", start_from=folder, settings=settings)


def test_a_forecaster_is_not_exported_to_a_library_that_has_none(folder, tmp_path, capsys):
    code, _, err = run(capsys, "export", folder, "--to", "hf", "-o", tmp_path / "hf")
    assert code == 2
    assert "a model of series, which no published layout here reads" in err
    assert not (tmp_path / "hf").exists()


def test_info_counts_patches_and_the_card_says_what_was_scored(folder, capsys):
    code, out, _ = run(capsys, "info", folder)
    assert code == 0
    assert f"length {regard.load(folder).model.config.num_patches})" in out
    card = (folder / "README.md").read_text()
    assert "| tokenizer | none |" in card
    assert "A change that they never had is in no band" in card


def median_of(folder: Path, file: Path) -> np.ndarray:
    (result,) = regard.load(folder).forecast(file)
    return np.array(result.median)


@pytest.mark.slow
def test_a_trend_continues(tmp_path):
    file = write(tmp_path / "trend.csv", {"y": 0.5 * np.arange(400.0)})
    train(file, tmp_path / "m", settings=(*SETTINGS, "forecast.horizon=12"))
    expected = 0.5 * np.arange(400, 412)
    assert np.abs(median_of(tmp_path / "m", file) - expected).max() < 0.5


@pytest.mark.slow
def test_a_loss_that_zeros_leave_unknown_is_not_printed_as_a_number(tmp_path, capsys):
    values = season(200)
    values[160:] = 0  # the validation and test parts
    file = write(tmp_path / "sales.csv", {"y": values})
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    code, out, _ = run(capsys, "train", file, "-o", tmp_path / "m", "--horizon", 6, *words)
    assert code == 0
    assert "valid weighted quantile loss unknown (only zeros)" in out
    assert "| validation | wql | - |" in (tmp_path / "m" / "README.md").read_text()
    assert "nan" not in out


@pytest.mark.slow
def test_after_a_level_shift_the_new_level_is_forecast(tmp_path):
    values = season(400)
    values[250:] += 20
    file = write(tmp_path / "shift.csv", {"y": values})
    train(file, tmp_path / "m", settings=SETTINGS)
    expected = season(424, noise=0)[400:] + 20
    assert np.abs(median_of(tmp_path / "m", file) - expected).mean() < 1


@pytest.mark.slow
def test_the_median_of_noise_does_not_dance_and_the_band_covers(tmp_path):
    noise = np.random.default_rng(7).normal(size=800)
    file = write(tmp_path / "noise.csv", {"y": noise[:700]})
    train(file, tmp_path / "m", settings=(*SETTINGS, "forecast.horizon=20"))
    forecaster = regard.load(tmp_path / "m")
    whole = read_time_series(write(tmp_path / "whole.csv", {"y": noise})).series
    inside, medians = [], []
    for origin in range(700, 781, 20):
        (quantiles,) = forecaster.quantiles(whole.until([origin]))
        actual = noise[origin : origin + 20]
        inside.append((quantiles[:, 1] <= actual) & (actual <= quantiles[:, -2]))
        medians.append(quantiles[:, 5])
    assert 0.65 <= np.mean(inside) <= 0.95
    assert np.std(medians) < 0.5


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (("forecast.seasons=5000",), "the longest has 340"),
        (("model.window=7", "model.patch=2"), r"model\.window must be a multiple of patch"),
        (("model.window=5000",), "has 328 steps to train on"),
        (("model.num_levels=9",), r"model\.num_levels=9: the data asks for 11"),
        (("model.num_known=3",), r"model\.num_known=3: the data asks for 0"),
        (("data.valid=60%", "data.test=50%"), "nothing to train on"),
        (("data.valid=45%", "data.test=50%", "forecast.horizon=24"), "Hold out less"),
    ],
)
def test_sizes_that_the_data_cannot_have_are_refused(tmp_path, data, settings, text):
    with pytest.raises((ConfigError, DataError), match=text):
        train(data, tmp_path / "m", settings=settings)
    assert not (tmp_path / "m").exists()


def test_a_column_known_ahead_without_a_value_to_learn_from_is_refused(tmp_path):
    known = np.full(400, np.nan)
    known[390:] = 1.0
    file = write(tmp_path / "a.csv", {"y": season(400), "holiday": known})
    with pytest.raises(DataError, match="column holiday has no value in the training steps"):
        train(file, tmp_path / "m", settings=(*SETTINGS, "forecast.known=holiday"))
