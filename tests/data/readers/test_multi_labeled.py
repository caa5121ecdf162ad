"""Texts with a column of 0 and 1 for every label."""

import json

import pytest

from regard.data.readers.labeled import read_labeled_texts
from regard.data.readers.multi_labeled import read_multi_labeled_texts
from regard.data.readers.shape import name_labels
from regard.data.readers.source import open_source
from regard.errors import ConfigError, DataError

COLUMNS = ("comment", "toxic", "rude")


def write(folder, *rows, name="comments.csv"):
    path = folder / name
    path.write_text("\n".join(("id,comment,toxic,rude", *rows)) + "\n", encoding="utf-8")
    return path


def test_a_text_has_the_labels_whose_columns_are_1(tmp_path):
    path = write(tmp_path, "1,fine,0,0", "2,bad,1,0", "3,worse,1,1")
    rows, dropped = read_multi_labeled_texts(path, COLUMNS)
    assert rows.label_sets == [(), ("toxic",), ("toxic", "rude")]
    assert rows.labels == ["no label", "toxic", "toxic, rude"]
    assert rows.targets(("rude", "toxic")).tolist() == [[0, 0], [0, 1], [1, 1]]
    assert dropped == []


@pytest.mark.parametrize("values", [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("yes", "no")])
def test_0_and_1_are_read_as_programs_write_them(values, tmp_path):
    path = write(tmp_path, ",".join(["1", "bad", *values]))
    assert read_multi_labeled_texts(path, COLUMNS)[0].label_sets == [("toxic",)]


def test_true_and_false_of_json_are_1_and_0(tmp_path):
    path = tmp_path / "comments.jsonl"
    fields = {"comment": "bad", "toxic": True, "rude": False}
    path.write_text(json.dumps(fields) + "\n" + json.dumps(fields | {"rude": 1}) + "\n")
    assert read_multi_labeled_texts(path, COLUMNS)[0].label_sets == [("toxic",), ("toxic", "rude")]


def test_rows_that_nobody_labeled_and_blank_texts_are_dropped(tmp_path):
    path = write(tmp_path, "1,fine,0,0", "2,test,-1,-1", "3,half,1,", "4, ,1,0")
    rows, dropped = read_multi_labeled_texts(path, COLUMNS)
    assert rows.texts == ["fine"]
    assert [(row.line, row.reason) for row in dropped] == [
        (3, "no value for a label (-1)"),
        (4, "no value for a label (empty)"),
        (5, "empty text"),
    ]


@pytest.mark.parametrize(
    ("cell", "remedy"),
    [
        ("0.4", "A fraction of annotators?  Round it to 0 or 1 first."),
        ("spam", "Labels in one column?  Name two: `data.columns=TEXT,LABEL`"),
        ("3", "Labels in one column?  Name two: `data.columns=TEXT,LABEL`"),
    ],
)
def test_another_value_is_refused_with_its_line_and_what_it_may_be(cell, remedy, tmp_path):
    path = write(tmp_path, "1,fine,0,0", f"2,bad,1,{cell}")
    with pytest.raises(DataError) as caught:
        read_multi_labeled_texts(path, COLUMNS)
    assert str(caught.value) == (
        f'{path}:3: column rude holds "{cell}", 0 or 1 expected: whether the text has that label.  '
        f'"bad"  {remedy}'
    )


def test_a_column_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="rude is named twice"):
        read_multi_labeled_texts(write(tmp_path, "1,a,0,1"), ("comment", "rude", "rude"))


def test_a_file_without_usable_rows_says_why(tmp_path):
    with pytest.raises(DataError, match=r"all have no value for a label \(-1\)\.  Expected rows"):
        read_multi_labeled_texts(write(tmp_path, "1,a,-1,-1"), COLUMNS)


@pytest.mark.parametrize(
    ("row", "columns", "is_labeled"),
    [
        ("1,you are bad,0,1", COLUMNS, True),
        ("1,2024-01-31,0,1", COLUMNS, False),
        ("1,7.5,0,1", COLUMNS, False),
        ("1,what is it,a text,1", COLUMNS, False),
    ],
)
def test_columns_of_0_and_1_behind_a_text_are_labels(row, columns, is_labeled, tmp_path):
    source = open_source(write(tmp_path, row, row))
    assert name_labels(source, columns) is is_labeled


def test_more_than_three_columns_are_a_text_and_its_labels_whatever_is_in_them(tmp_path):
    path = write(tmp_path, "1,bad,MM,PR")
    assert name_labels(open_source(path), ("comment", "toxic", "rude", "id"))
    with pytest.raises(DataError, match='no column "threat"'):
        read_multi_labeled_texts(path, (*COLUMNS, "threat"))


def test_flags_in_a_list_are_refused_with_columns_for_them(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a b", "labels": [0, 0]}\n')
    with pytest.raises(DataError, match=r"to a column of its own, and name all: .data\.columns="):
        read_labeled_texts(path)
