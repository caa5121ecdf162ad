"""Texts with labels in rows of tables and lines of JSON."""

import json

import pytest

from regard.data.labeled_text import LabeledTexts, describe_contradictions
from regard.data.readers.labeled import read_labeled_texts
from regard.errors import DataError


def test_rows_without_text_or_label_are_dropped(tmp_path):
    path = tmp_path / "mood.csv"
    path.write_text("text,label\n good ,a\n,b\nbad,\n")
    rows, dropped = read_labeled_texts(path)
    assert (rows.texts, rows.labels, rows.lines) == (["good"], ["a"], [2])
    assert [(row.line, row.reason) for row in dropped] == [(3, "empty text"), (4, "empty label")]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("text,label\n", "no rows below the names of columns."),
        ("text,label\nhello,\nyou,\n", "no usable row: all have an empty label."),
        ("text,label\nhello,\n,a\n", "no usable row: all have an empty label or an empty text."),
        (
            "text,label,was_cancelled\nhello,a,True\n",
            "no usable row: all have a mark (marked as was_cancelled: true).",
        ),
    ],
)
def test_a_file_without_usable_rows_says_why(tmp_path, content, cause):
    path = tmp_path / "mood.csv"
    path.write_text(content)
    with pytest.raises(DataError) as raised:
        read_labeled_texts(path)
    assert str(raised.value) == f"{path}: {cause}  Expected rows with text and label."


@pytest.mark.parametrize(
    ("rejected", "accepted", "reason"),
    [
        ({"answer": "reject"}, {"answer": "accept"}, "marked as answer: reject"),
        ({"answer": "ignore"}, {"answer": "accept"}, "marked as answer: ignore"),
        ({"was_cancelled": True}, {"was_cancelled": False}, "marked as was_cancelled: true"),
        ({"status": "discarded"}, {"status": "submitted"}, "marked as status: discarded"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_rows_that_annotators_rejected_are_left_out(tmp_path, rejected, accepted, reason, suffix):
    rows = [
        {"text": text, "label": "a"} | mark for text, mark in [("x", accepted), ("y", rejected)]
    ]
    lines = [json.dumps(row) for row in rows]
    if suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path = tmp_path / f"mood{suffix}"
    path.write_text("\n".join(lines))
    texts, dropped = read_labeled_texts(path)
    assert texts.texts == ["x"]
    assert [(row.text, row.reason) for row in dropped] == [("y", reason)]


def test_a_column_that_is_read_is_no_mark(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,answer\nx,accept\ny,reject\n")
    texts, dropped = read_labeled_texts(path, columns=("text", "answer"))
    assert (texts.labels, dropped) == (["accept", "reject"], [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "x", "label": ["good"]}\n{"text": "y", "label": []}\n'),
        ("a.jsonl", '{"text": "x", "labels": ["good"]}\n{"text": "y", "labels": null}\n'),
        ("a.csv", "text,label\nx,['good']\ny,[]\n"),
        ("a.csv", 'text,label\nx,"[""good""]"\ny,\n'),
        ("a.csv", 'text,label\nx,"{""choices"": [""good""]}"\ny,\n'),
        ("a.jsonl", '{"text": "x", "label": {"choices": ["good"]}}\n{"text": "y", "label": ""}\n'),
    ],
)
def test_the_only_label_of_a_list_is_the_label(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    texts, dropped = read_labeled_texts(path)
    assert texts.labels == ["good"]
    assert [(row.text, row.reason) for row in dropped] == [("y", "empty label")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "x", "label": "good"}\n{"text": "y", "label": ["good", "new"]}\n'),
        ("a.csv", "text,label\nx,good\ny,\"['good', 'new']\"\n"),
    ],
)
def test_several_labels_of_a_row_are_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError) as raised:
        read_labeled_texts(path)
    text = str(raised.value)
    assert '"label" has 2 values, "good, new", one expected.  Keep one of them.' in text
    assert text.startswith(f"{path}:{2 if name.endswith('l') else 3}: ")


def test_texts_with_several_labels_are_named():
    texts = LabeledTexts(
        path="a.csv", texts=list("xyxzx"), labels=list("abcba"), lines=[2, 3, 4, 5, 6]
    )
    assert describe_contradictions(texts) == [
        "1 text has several labels (a in line 2 and c in line 4).  Do annotators disagree?  "
        "Keep one row of each."
    ]
    assert describe_contradictions(texts.select([0, 1, 3, 4])) == []
