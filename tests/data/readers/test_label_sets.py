"""Texts with several labels in one cell: lists, or names between separators."""

import json

import pytest

from regard.data.readers.label_sets import holds_label_sets, read_label_sets
from regard.data.readers.source import open_source
from regard.errors import ConfigError, DataError
from regard.setup.request import Request
from regard.tasks.choice import choose_task
from regard.tasks.classification.task import CLASSIFICATION
from regard.tasks.multi_label_classification.task import MULTI_LABEL_CLASSIFICATION

COLUMNS = ("text", "label")


def write_objects(path, *labels):
    path.write_text("".join(json.dumps({"text": "a b", "label": x}) + "\n" for x in labels))
    return path


def test_a_list_of_names_is_the_labels_of_a_text_and_an_empty_one_has_none(tmp_path):
    path = write_objects(tmp_path / "a.jsonl", ["a", "b"], [], ["b", "b"], [3])
    rows, dropped = read_label_sets(path, COLUMNS)
    assert rows.label_sets == [("a", "b"), (), ("b",), ("3",)]
    assert rows.labels == ["a, b", "no label", "b", "3"]
    assert dropped == []


@pytest.mark.parametrize(
    "cell", ["['a', 'b']", "['a' 'b']", '["a", "b"]', '{"choices": ["a", "b"]}']
)
def test_lists_in_cells_are_read_as_programs_print_them(cell, tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(f"text\tlabel\nx y\t{cell}\n")
    assert read_label_sets(path, COLUMNS)[0].label_sets == [("a", "b")]


def test_names_between_separators_are_labels_without_the_spaces_around_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,a | b\ny,b\nw,a||b|\n")
    rows, dropped = read_label_sets(path, COLUMNS, separator="|")
    assert rows.label_sets == [("a", "b"), ("b",), ("a", "b")]
    assert dropped == []


def test_an_empty_cell_among_names_is_no_label_and_na_is_left_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,a|b\ny,\nz,NA\nw, | \n")
    rows, dropped = read_label_sets(path, COLUMNS, separator="|")
    assert (rows.texts, rows.label_sets) == (["x", "y", "w"], [("a", "b"), (), ()])
    assert [(row.line, row.reason) for row in dropped] == [(4, "no value for a label (NA)")]


def test_a_column_of_labels_without_any_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,\ny,\n")
    with pytest.raises(DataError, match=r"no row has a label: all cells of label are empty\."):
        read_label_sets(path, COLUMNS, separator="|")


def test_a_name_among_lists_is_refused_with_the_setting_that_splits_it(tmp_path):
    path = write_objects(tmp_path / "a.jsonl", ["a", "b"], "a|b")
    with pytest.raises(DataError, match=r"a\.jsonl:2: column label holds \"a\|b\", a list of lab"):
        read_label_sets(path, COLUMNS)


@pytest.mark.parametrize(
    ("labels", "are_sets"),
    [
        ([["a", "b"], [], None, ["c"]], True),
        ([["a"], ["b"], []], False),  # one label each
        ([["a", "b"], "a"], False),
        (["a|b", "a"], False),
        ([[0, 1], [1, 1]], False),  # a 1 for each label
        ([[0, 1], [1]], True),
        ([[0.25, 0.75], [0.5, 0.5]], False),
        ([["O", "O", "B-PER"], ["O", "B-PER"]], False),  # tags of words
    ],
)
def test_the_first_rows_say_whether_labels_are_lists(labels, are_sets, tmp_path):
    path = write_objects(tmp_path / "a.jsonl", *labels)
    assert holds_label_sets(open_source(path), COLUMNS) is are_sets


def test_several_labels_of_fasttext_are_lists(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("__label__a x y\n__label__a __label__b z\n")
    source = open_source(path)
    assert choose_task(Request.parse([]), source) is MULTI_LABEL_CLASSIFICATION
    assert read_label_sets(source, COLUMNS)[0].label_sets == [("a",), ("a", "b")]


def test_lists_of_labels_choose_the_task_and_so_does_a_separator(tmp_path):
    lists = open_source(write_objects(tmp_path / "a.jsonl", ["a", "b"], ["c"]))
    assert choose_task(Request.parse([]), lists) is MULTI_LABEL_CLASSIFICATION
    names = open_source(write_objects(tmp_path / "b.jsonl", "a|b", "a", "b"))
    assert choose_task(Request.parse([]), names) is CLASSIFICATION
    request = Request.parse(["data.label_separator=|"])
    assert choose_task(request, names) is MULTI_LABEL_CLASSIFICATION


def test_a_list_under_another_name_is_labels_where_it_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"plot": "a b", "themes": ["x", "y"]}\n')
    request = Request.parse(["data.columns=plot,themes"])
    assert choose_task(request, open_source(path)) is MULTI_LABEL_CLASSIFICATION


def test_one_label_a_text_is_kept_where_it_is_set(tmp_path):
    source = open_source(write_objects(tmp_path / "a.jsonl", ["a", "b"]))
    assert choose_task(Request.parse(["data.multi_label=false"]), source) is CLASSIFICATION


def test_a_separator_is_refused_by_tasks_without_labels(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("a b\tc d\n")
    settings = ["task=translation", "data.label_separator=|"]
    with pytest.raises(ConfigError, match=r"data.label_separator=\|.*a setting of classification"):
        choose_task(Request.parse(settings), open_source(path))


def test_numbers_of_labels_in_lists_have_the_names_that_datasets_keeps(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    label = {"names": ["calm", "glad"], "_type": "ClassLabel"}
    features = {"text": {"_type": "Value"}, "labels": {"feature": label, "_type": "Sequence"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table({"text": ["a", "b"], "labels": [[0, 1], [1]]})
    path = tmp_path / "a.parquet"
    parquet.write_table(table.replace_schema_metadata(metadata), path)
    assert read_label_sets(path, COLUMNS)[0].label_sets == [("calm", "glad"), ("glad",)]
