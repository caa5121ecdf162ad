"""Rows of numbers with labels."""

import pytest

from regard.cli.wording import error_text
from regard.data.readers.series import inspect_number_table, read_number_rows, read_unlabeled_rows
from regard.errors import DataError


def write(tmp_path, text, name="waves.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def shown(rows):
    return [(row.line, row.label, row.numbers.tolist()) for row in rows]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_rows_have_labels_and_numbers(tmp_path, name, separator):
    text = "a,label,b\n1,up,2.5\n\n-3e1,down, 4\n".replace(",", separator)
    rows = read_number_rows(write(tmp_path, text, name))
    assert shown(rows) == [(2, "up", [1.0, 2.5]), (4, "down", [-30.0, 4.0])]


def test_the_end_of_a_row_may_be_empty_or_missing(tmp_path):
    rows = read_number_rows(write(tmp_path, "label,a,b,c\nx,1,,\ny,2\n"))
    assert shown(rows) == [(2, "x", [1.0]), (3, "y", [2.0])]


def test_the_column_of_labels_can_be_named(tmp_path):
    path = write(tmp_path, "class,a\nx,1\n")
    assert shown(read_number_rows(path, label="class")) == [(2, "x", [1.0])]


REFUSED = {
    "label,a,b\nx,1,two\n": '2: column b holds no number.  "two"',
    'label,a,b\nx,"1,5",2\n': (
        '2: column a holds no number.  "1,5"  A decimal comma?  Write a point.'
    ),
    "label,a,b\nx,,2\n": "2: column a is empty, and numbers follow.  Only the end of a row may be.",
    "label,a,b\nx,1,nan\n": '2: column b is too large, or not finite.  "nan"',
    "label,a,b\nx,1,2,3\n": "2: 4 columns, 3 expected.",
    "label,a,b\n,1,2\n": "2: the label is empty.  Fill it in, or leave the row out.",
    "label,a,b\nx,,\n": "2: no numbers.  Fill them in, or leave the row out.",
    "label,a\nx,u\ny,v\nz,w\n": '2: column a holds no number.  "u"  And 2 more like it.',
    "a,b\n1,2\n": ('1: no column "label".  Columns seen: a, b.  Name the one: --columns NAME'),
    "kind," + ",".join("abcdefghijk") + "\n": (
        '1: no column "label".  Columns seen: kind, a, b, c, d, e, f, g, h, i and 2 more.  '
        "Name the one: --columns NAME"
    ),
    "sine,0.1,0.2\n": (
        '1: no column "label".  '
        "The first row holds numbers: no header?  Name the column of labels by its number: "
        "--columns 1"
    ),
    "": '1: no column "label".  Columns seen: none.',
}


@pytest.mark.parametrize("text", REFUSED)
def test_cells_that_cannot_be_read_are_named_with_their_line(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_number_rows(path)
    assert error_text(caught.value) == f"{path}:{REFUSED[text]}"


@pytest.mark.parametrize("name", ["", "id", "Unnamed: 0"])
def test_a_first_column_of_row_numbers_is_left_out(tmp_path, name):
    path = write(tmp_path, f"{name},label,a,b\n1,x,2,3\n2,y,4,5\n")
    assert [row.numbers.tolist() for row in read_number_rows(path)] == [[2.0, 3.0], [4.0, 5.0]]
    assert [row.numbers.tolist() for row in read_unlabeled_rows(path)] == [[2.0, 3.0], [4.0, 5.0]]


def test_a_column_of_row_numbers_elsewhere_is_read(tmp_path):
    path = write(tmp_path, "label,id,a\nx,1,2\ny,2,4\n")
    assert [row.numbers.tolist() for row in read_number_rows(path)] == [[1.0, 2.0], [2.0, 4.0]]


def test_a_header_alone_is_refused(tmp_path):
    path = write(tmp_path, "label,a\n")
    with pytest.raises(DataError) as caught:
        read_number_rows(path)
    assert error_text(caught.value) == (
        f"{path}: there are no rows of numbers.  Expected a header, then one a row."
    )


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "a,b\n1,2\n3,4\n", "a,label,b\n1,x,2\n3,y,4\n"])
def test_rows_to_be_classified_need_neither_header_nor_labels(tmp_path, text):
    rows = read_unlabeled_rows(write(tmp_path, text))
    assert [row.numbers.tolist() for row in rows] == [[1.0, 2.0], [3.0, 4.0]]


def test_rows_to_be_classified_are_checked_too(tmp_path):
    path = write(tmp_path, "1,2\n3,x\n")
    with pytest.raises(DataError) as caught:
        read_unlabeled_rows(path)
    assert error_text(caught.value) == f'{path}:2: column 2 holds no number.  "x"'
    path = write(tmp_path, "sine,0.1,0.2\nsaw,0.3,0.4\n")
    with pytest.raises(DataError) as caught:
        read_unlabeled_rows(path)
    assert error_text(caught.value) == (
        f"{path}:1: a text among numbers.  "
        "The first row holds numbers; write names above them: label,x1,x2,..."
    )
    with pytest.raises(DataError, match=r"no rows of numbers\.  Expected one series a row\.$"):
        read_unlabeled_rows(write(tmp_path, ""))


@pytest.mark.parametrize(
    "text",
    [
        "date,label,a,b\n2024-01-31,x,1,2\n2024-02-01,y,3,4\n",
        "label,a,when,b\nx,1,31.1.2024 12:30,2\ny,3,,4\n",
        "\ufefflabel,a,b,when\nx,1,2,2010-01-01  01:00:00\ny,3,4,2010-01-01  02:00:00\n",
        "label,a,b,time\nx,1,2,09:30\ny,3,4,10:30:15\n",
        "id,label,a,b,\n7,x,1,2,\n9,y,3,4,,\n",
    ],
)
def test_columns_of_dates_and_empty_cells_at_the_end_are_left_out(tmp_path, text):
    rows = read_number_rows(write(tmp_path, text))
    assert [row.numbers.tolist() for row in rows] == [[1.0, 2.0], [3.0, 4.0]]


def test_a_number_behind_the_header_is_refused(tmp_path):
    path = write(tmp_path, "label,a\nx,1,2\n")
    with pytest.raises(DataError, match=r":2: 3 columns, 2 expected"):
        read_number_rows(path)


@pytest.mark.parametrize(
    ("cell", "number"),
    [("1,5", 1.5), ("-0,125", -0.125), ("1000,25", 1000.25), ("1.234,5", 1234.5)],
)
def test_decimal_commas_are_read_where_no_comma_separates(tmp_path, cell, number):
    path = write(tmp_path, f"label;a;b\nx;{cell};2\n")
    (row,) = read_number_rows(path)
    assert row.numbers.tolist() == [number, 2.0]
    assert inspect_number_table(path).has_decimal_commas
    (row,) = read_unlabeled_rows(write(tmp_path, f"a;b\n{cell};2\n"))
    assert row.numbers.tolist() == [number, 2.0]


@pytest.mark.parametrize("text", ["label;a\nx;1,234\n", 'label,a\nx,"1,5"\n'])
def test_commas_that_may_be_thousands_are_refused(tmp_path, text):
    with pytest.raises(DataError, match=r"column a holds no number\.  .*A decimal comma"):
        read_number_rows(write(tmp_path, text))


def test_decimal_commas_are_read_below_blank_lines(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\n\r\nlabel;x;y\na;1,5;2,5\nb;2,5;1\n")
    assert [row.numbers.tolist() for row in read_number_rows(path)] == [[1.5, 2.5], [2.5, 1]]
    assert inspect_number_table(path).has_decimal_commas


def test_digits_with_an_underscore_are_no_number(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("label,x,y\na,1_5,2\nb,2,1\n")
    with pytest.raises(DataError, match=r'rows.csv:2: column x holds no number.  "1_5"'):
        read_number_rows(path)


def test_a_point_among_decimal_commas_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"column b has a decimal point, others have commas"):
        read_number_rows(write(tmp_path, "label;a;b\nx;1,5;1.234\n"))


def test_cells_without_a_value_are_named(tmp_path):
    with pytest.raises(DataError, match=r'column a has no value\.  "NA"  Fill it in, or leave'):
        read_number_rows(write(tmp_path, "label,a,b\nx,NA,2\n"))


def test_numbers_keep_the_precision_of_the_file(tmp_path):
    (row,) = read_number_rows(write(tmp_path, "label,a,b\nx,1000000000.25,1000000000.5\n"))
    assert row.numbers.tolist() == [1_000_000_000.25, 1_000_000_000.5]


@pytest.mark.parametrize(
    ("text", "label", "rows"),
    [
        ("5.1,3.5,a\n4.9,3.0,b\n", "3", [(1, "a", [5.1, 3.5]), (2, "b", [4.9, 3.0])]),
        ("a,5.1,3.5\nb,4.9,3.0\n", "1", [(1, "a", [5.1, 3.5]), (2, "b", [4.9, 3.0])]),
        ("5.1,3.5,0\n4.9,3.0,1\n", "3", [(1, "0", [5.1, 3.5]), (2, "1", [4.9, 3.0])]),
        ("x,y,kind\n4.9,3.0,b\n", "3", [(2, "b", [4.9, 3.0])]),
        ("1,2,3\n4.9,3.0,b\n", "3", [(2, "b", [4.9, 3.0])]),  # the name of a column
    ],
)
def test_a_column_of_labels_is_named_by_its_number(tmp_path, text, label, rows):
    path = write(tmp_path, text)
    assert shown(read_number_rows(path, label=label)) == rows
    numbers = [row.numbers.tolist() for row in read_unlabeled_rows(path, label=label)]
    assert numbers == [row for _, _, row in rows]
    assert inspect_number_table(path, label=label).left_out == ()


def test_rows_without_the_column_of_labels_are_read_by_a_model_that_had_one(tmp_path):
    path = write(tmp_path, "5.1,3.5\n4.9,3.0\n")
    rows = read_unlabeled_rows(path, label="3")
    assert [row.numbers.tolist() for row in rows] == [[5.1, 3.5], [4.9, 3.0]]
