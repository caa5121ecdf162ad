"""Tables of numbers and texts with labels, as people export them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.tasks.classification.input_data import write_wav

from regard.__main__ import main


def check(capsys, path, *words):
    """Return exit code, report and message of ``regard check``."""
    code = main(["check", str(path), "--json", *words])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def write_series(path, header, row, *, sep=","):
    """Write 40 rows; `row` returns the cells of one, by its number."""
    lines = [sep.join(header), *(sep.join(map(str, row(number))) for number in range(40))]
    path.write_text("\n".join(lines) + "\n")
    return path


def values(number):
    return [f"{(number * 7 + step) % 11}.5" for step in range(4)]


@pytest.mark.parametrize(
    ("name", "cell"), [("date", "2024-01-{:02d}"), ("when", "{}.01.2024 10:00"), ("id", "{}")]
)
def test_a_column_of_dates_or_numbers_of_rows_is_left_out_and_named(capsys, tmp_path, name, cell):
    path = write_series(
        tmp_path / "a.csv",
        [name, "label", "a", "b", "c", "d"],
        lambda number: [cell.format(1 + number % 28), "xy"[number % 2], *values(number)],
    )
    code, report, _ = check(capsys, path)
    assert (code, report["task"], report["unused_columns"]) == (0, "series-classification", [name])
    assert report["sizes"].endswith("4 to 4 steps long, median 4")


def test_decimal_commas_are_reported(capsys, tmp_path):
    path = write_series(
        tmp_path / "a.csv",
        ["label", "a", "b", "c", "d"],
        lambda number: ["xy"[number % 2], *(v.replace(".", ",") for v in values(number))],
        sep=";",
    )
    code, report, _ = check(capsys, path)
    assert (code, report["task"]) == (0, "series-classification")
    assert report["read_as"].endswith("(decimal commas)")


def test_a_table_of_series_with_a_missing_value_is_not_taken_for_pairs(capsys, tmp_path):
    path = write_series(
        tmp_path / "a.csv",
        ["label", "place", "a", "b", "c", "d"],
        lambda number: ["xy"[number % 2], "hall", "NA", *values(number)[1:]],
    )
    code, report, err = check(capsys, path)
    assert (code, report["task"]) == (3, "series-classification")
    assert 'column place holds no number.  "hall"' in err
    assert "source" not in err


@pytest.mark.parametrize("kind", ["series", "texts"])
def test_labels_that_are_the_same_number_are_one(capsys, tmp_path, kind):
    labels = ["1", "2", "1.0", "2.0"]
    if kind == "series":
        row, header = (lambda number: [labels[number % 4], *values(number)]), ["label", *"abcd"]
    else:
        row, header = (lambda number: [labels[number % 4], f"a text {number}"]), ["label", "text"]
    path = write_series(tmp_path / "a.csv", header, row)
    code, report, _ = check(capsys, path)
    assert (code, report["contents"]) == (0, "2 labels")
    assert report["warnings"] == ["Labels that are the same number are one: 1 and 1.0, 2 and 2.0."]


@pytest.mark.parametrize("name", ["NaN", "nan", "None", "null", "NA", "#N/A"])
def test_a_label_that_tables_have_for_a_missing_value_is_named(tmp_path, capsys, name):
    labels = ["good", "bad", name]
    rows = [f"the film number {i} was seen,{labels[i % 3]}\n" for i in range(60)]
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "".join(rows))
    _, report, _ = check(capsys, path)
    assert report["warnings"] == [
        f'"{name}" is a label, of 20 rows.  If it means that there is none, leave those rows out.'
    ]


def test_labels_that_differ_in_capitals_are_named(tmp_path, capsys):
    labels = ["Good", "bad", "good"]
    rows = [f"the film number {i} was seen,{labels[i % 3]}\n" for i in range(60)]
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "".join(rows))
    _, report, _ = check(capsys, path)
    assert report["contents"] == "3 labels"
    assert report["warnings"] == [
        "Labels that differ in capitals alone: Good and good.  Each is one label."
    ]


def test_rows_whose_label_is_null_are_dropped_as_those_of_an_empty_cell(tmp_path, capsys):
    labels = ["good", "bad", None]
    rows = [{"text": f"the film number {i} was seen", "label": labels[i % 3]} for i in range(60)]
    path = tmp_path / "reviews.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, report, _ = check(capsys, path)
    assert report["dropped"] == {"empty label": 20}


def test_labels_of_a_test_file_have_the_spelling_of_training(capsys, tmp_path):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    write_series(train, ["label", *"abcd"], lambda n: [("1", "2")[n % 2], *values(n)])
    test.write_text("label,a,b,c,d\n1.0,90,91,92,93\n2.0,94,95,96,97\n")
    code, report, _ = check(capsys, train, "--test", str(test))
    assert (code, report["num_test"], report["warnings"]) == (0, 2, [])


def test_texts_that_are_also_in_training_are_not_called_sources(capsys, tmp_path):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    write_series(train, ["label", "text"], lambda number: ["xy"[number % 2], f"a text {number}"])
    test.write_text("label,text\n" + "".join(f"x,a text {n}\n" for n in range(40)))
    code, _, err = check(capsys, train, "--test", str(test))
    assert code == 3
    assert " of 40 texts also stand in " in err and "source" not in err


def write_parts(folder, **num_files):
    """Write recordings of two labels in folders of the data's parts."""
    generator = np.random.default_rng(1)
    for part, num in num_files.items():
        for number in range(num):
            path = folder / part / "xy"[number % 2] / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_wav(path, generator.normal(size=400) / 8)
    return folder


def test_folders_of_parts_are_the_parts(capsys, tmp_path):
    folder = write_parts(tmp_path / "a", train=20, val=4, test=6)
    code, report, _ = check(capsys, folder)
    assert code == 0
    assert (report["num_train"], report["num_valid"], report["num_test"]) == (20, 4, 6)
    assert report["labels"] == {"x": 15, "y": 15}
    assert report["read_as"] == "recordings, a folder for each label in test, train, val"


def test_a_fraction_of_a_folder_with_that_part_is_refused(capsys, tmp_path):
    folder = write_parts(tmp_path / "a", train=20, test=6)
    code, _, err = check(capsys, folder, "--test", "10%")
    assert code == 3
    assert err == (
        f"regard: {folder}: has test data of its own, 6 recordings.  "
        "Leave --test 10% out, or name data without this part.\n"
    )
    code, report, _ = check(capsys, folder, "--valid", "30%")
    assert (report["num_train"], report["num_valid"], report["num_test"]) == (14, 6, 6)
