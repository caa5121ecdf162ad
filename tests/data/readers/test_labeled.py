"""Texts with labels in rows of tables and lines of JSON."""

import pytest

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
    ],
)
def test_a_file_without_usable_rows_says_why(tmp_path, content, cause):
    path = tmp_path / "mood.csv"
    path.write_text(content)
    with pytest.raises(DataError) as raised:
        read_labeled_texts(path)
    assert str(raised.value) == f"{path}: {cause}  Expected rows with text and label."
