"""The comparison of forecasters reads the files of packages, and scores the ends of series."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from benchmarks.forecasting import SERIES, Line, make_problem, read_values, table

from benchmarks import forecasting


@pytest.fixture
def folder(tmp_path):
    """Return a folder with wool in a Python file, as pmdarima has it."""
    rng = np.random.default_rng(0)
    wool = 100 + 10 * np.sin(np.pi * np.arange(119) / 2) + rng.normal(size=119)
    source = (
        f"import numpy as np\n\ndef load():\n    return np.array({wool.tolist()}).astype(float)\n"
    )
    (tmp_path / "woolyrnq.py").write_text(source, encoding="utf-8")
    return tmp_path


def test_numbers_are_read_from_python_text_and_tables(folder):
    assert len(read_values(SERIES["woolyrnq"], folder)) == 119
    (folder / "data").mkdir()
    np.savetxt(folder / "data" / "sunspots.txt.gz", np.arange(24.0).reshape(2, 12))
    np.testing.assert_array_equal(read_values(SERIES["sunspots"], folder), np.arange(24))
    (folder / "solar").mkdir()
    (folder / "solar" / "solar.csv").write_text("when,solar_gen\na,1\nb,2.5\n", encoding="utf-8")
    assert read_values(SERIES["solar"], folder).tolist() == [1, 2.5]


@pytest.mark.parametrize("name", SERIES)
def test_the_windows_of_a_series_end_with_it(name):
    public = SERIES[name]
    problem = make_problem(name, np.arange(1000.0))
    assert len(problem.windows) == public.num_windows
    assert problem.windows[-1].actual[-1] == 999
    assert problem.first == 1000 - public.num_windows * public.horizon


def test_copies_and_ridge_are_measured_and_printed(folder, capsys, monkeypatch):
    words = ["--data-sets", "woolyrnq", "--only", "copy,ridge", "--pmdarima", str(folder)]
    monkeypatch.setattr(sys, "argv", ["forecasting.py", *words])
    monkeypatch.setattr(forecasting, "find_spec", lambda name: None)
    forecasting.main()
    printed = capsys.readouterr().out.splitlines()
    lines = [json.loads(line) for line in printed if line.startswith("{")]
    assert [line["contender"] for line in lines] == [
        "copy of the last",
        "copy of 4 before",
        "ridge",
    ]
    assert lines[0]["mase"] > 3 * lines[1]["mase"]
    assert all(line["windows"] == 3 for line in lines)
    assert sum(line.startswith("| ") for line in printed) == 4


def test_a_table_has_a_row_for_each_series_and_its_best_scores_are_bold():
    shared = {"windows": 3, "season": 4, "coverage80": 80.0, "seconds": 1.0}
    lines = [
        Line(series="a", contender="copy of 2 before", mase=0.1, wql=0.01, **shared),
        Line(series="a", contender="copy of 4 before", mase=1.0, wql=0.1, **shared),
        Line(series="a", contender="ridge", mase=0.5, wql=0.2, **shared),
        Line(series="b", contender="ridge", mase=None, wql=0.3, **shared),
    ]
    assert table(lines).splitlines() == [
        "| series (season), windows | copy of the season | ridge |",
        "| --- | --- | --- |",
        "| a (4), 3 | 1.000 / **0.1000** / 80 % | **0.500** / 0.2000 / 80 % |",
        "| b (4), 3 |  | - / **0.3000** / 80 % |",
        "| seconds | 1.0 | 2.0 |",
    ]


@pytest.mark.parametrize(("option", "word"), [("--data-sets", "tailor"), ("--only", "rigde")])
def test_an_unknown_name_is_refused(option, word, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["forecasting.py", option, word])
    with pytest.raises(SystemExit, match=f"{option} {word}: not known.  Known: "):
        forecasting.main()


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(forecasting, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install --no-deps sktime"):
        forecasting.find_folder("sktime", None)
