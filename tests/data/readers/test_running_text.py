"""Running text: read by the line, a document a file or a row."""

import pytest

from regard.data.readers.running_text import read_text
from regard.errors import DataError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_file_is_one_document(tmp_path):
    found = read_text(write(tmp_path / "a.txt", "One\n\nTwo\n\n"))
    assert found.texts == ["One", "", "Two"]
    assert found.ends_document == [False, False, True]
    assert found.num_chars == len("One\n\nTwo\n")


def test_a_row_of_jsonl_is_a_document_of_its_own(tmp_path):
    rows = '{"text": "One\\nand more"}\n{"text": "Two"}\n'
    found = read_text(write(tmp_path / "a.jsonl", rows))
    assert found.texts == ["One", "and more", "Two"]
    assert found.numbers == [1, 1, 2]
    assert found.ends_document == [False, True, True]


def test_the_column_of_a_csv_file_can_be_named(tmp_path):
    found = read_text(write(tmp_path / "a.csv", "id,body\n1,Hello\n"), column="body")
    assert found.texts == ["Hello"]


def test_a_missing_column_is_refused_with_those_seen(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"words": "Hello"}\n')
    with pytest.raises(DataError) as raised:
        read_text(path)
    assert str(raised.value) == f'{path}:1: no key "text".  Keys seen: words.  ' + (
        '"{"words": "Hello"}"'
    )


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_text_is_refused(tmp_path, text):
    path = write(tmp_path / "a.txt", text)
    with pytest.raises(DataError) as raised:
        read_text(path)
    assert str(raised.value) == f"{path}: the file is empty.  Expected running text."


@pytest.mark.parametrize("name", ["a.ndjson", "a.txt", "a.tsv", "a"])
@pytest.mark.parametrize(
    "rows", ['{"text": "One"}\n{"text": "Two"}\n', '[\n{"text": "One"},\n{"text": "Two"}\n]\n']
)
def test_objects_of_json_are_documents_in_a_file_of_any_name(tmp_path, name, rows):
    assert read_text(write(tmp_path / name, rows)).texts == ["One", "Two"]


@pytest.mark.parametrize(
    "line",
    ['[{"quoted"}] he said', '[{"a": 1}] is a list of JSON', "{0} files", "{", '{"text": "a row"}'],
)
def test_a_text_that_begins_with_a_bracket_is_a_text(tmp_path, line):
    found = read_text(write(tmp_path / "a.txt", f"{line}\nTwo\n"))
    assert found.texts == [line, "Two"]
