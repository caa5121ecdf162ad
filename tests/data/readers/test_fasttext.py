"""Lines of fastText: a label and a text each, whatever the name of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from regard.data.readers.labeled import read_labeled_texts
from regard.data.readers.shape import inspect_shape
from regard.data.readers.source import open_source
from regard.data.readers.table_inspection import inspect_records
from regard.errors import DataError
from regard.tasks import guess_task

TEXT = "__label__good a fine day\n\n__label__bad  it\trained, again \n"


@pytest.mark.parametrize("name", ["m.txt", "m.tsv", "m.csv", "m.train", "m"])
def test_lines_of_fasttext_are_labelled_texts(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(TEXT)
    rows, dropped = read_labeled_texts(path)
    assert rows.texts == ["a fine day", "it\trained, again"]
    assert (rows.labels, rows.lines, dropped) == (["good", "bad"], [1, 3], [])
    assert inspect_shape(open_source(path)).kind == "table"
    assert guess_task(path) == "classification"
    read_as = inspect_records(open_source(path), ("text", "label"), "labelled text")
    assert read_as.text == "labelled text, columns text, label (labels as fastText marks them)"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a day", r"m.txt:4: no label, __label__NAME at the beginning or end expected.  \"a day\""),
        (
            "__label__a __label__b x",
            'm.txt:4: "label" has 2 values, "a, b", one expected.  Keep one',
        ),
    ],
)
def test_a_line_with_another_number_of_labels_is_refused(
    line: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.txt"
    path.write_text(f"{TEXT}{line}\n")
    with pytest.raises(DataError, match=message):
        read_labeled_texts(path)


def test_a_label_without_a_text_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text(f"{TEXT}__label__good\n")
    rows, dropped = read_labeled_texts(path)
    assert len(rows.texts) == 2
    assert [(row.line, row.reason) for row in dropped] == [(4, "empty text")]


def test_a_label_may_be_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text("a fine day __label__good\nit rained\t__label__bad\r\n")
    rows, _ = read_labeled_texts(path)
    assert rows.texts == ["a fine day", "it rained"]
    assert rows.labels == ["good", "bad"]
    assert guess_task(path) == "classification"


def test_a_first_line_without_a_label_is_refused_where_others_have_one(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text(f"a title\n{TEXT}")
    assert guess_task(path) == "classification"
    with pytest.raises(DataError, match=r"m.txt:1: no label, .*\"a title\""):
        read_labeled_texts(path)


def test_a_text_with_a_line_of_labels_is_running_text(tmp_path: Path) -> None:
    path = tmp_path / "m.md"
    path.write_text("How labels are written:\n\n__label__good a day\nThat is all.\n")
    assert guess_task(path) == "language-modeling"


def test_running_text_may_speak_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text("A label is written __label__good in fastText.\n" * 3)
    assert guess_task(path) == "language-modeling"
