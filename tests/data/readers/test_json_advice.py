"""Commands that make an object a line of JSON in another layout."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from regard.data.readers.json_advice import (
    advise_layout,
    advise_list_of_one,
    advise_nested,
    advise_object,
)

ROWS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
LINES = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in ROWS)


@pytest.mark.skipif(shutil.which("jq") is None, reason="runs jq")
@pytest.mark.parametrize(
    ("value", "output"),
    [
        ({"n": 1, "rows": ROWS}, LINES),
        ({"all rows": ROWS, "meta": {"a": 1}}, LINES),
        ({"text": ["a", "b"], "label": ["x", "y"]}, LINES),
        ({"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}}, LINES),
        ({"a": {"b c": ROWS, "n": 1}}, LINES),
        ({"a b": {"rows": ROWS}}, LINES),
        ({"17": ROWS[0], "x": ROWS[1]}, LINES),
        (ROWS[0], LINES.split("\n")[0] + "\n"),
        ({"columns": ["text", "label"], "data": [["a", "x"]], "index": [0]}, "text\tlabel\na\tx\n"),
        ({"columns": ["a"], "data": [[1], [2]], "index": [5, 7]}, "time\ta\n5\t1\n7\t2\n"),
        ({"a": {"5": 1, "7": 2}}, '{"time":"5","a":1}\n{"time":"7","a":2}\n'),
        ({"a": {"5-1": 1}, "b": {"5-1": 2}}, '{"time":"5-1","a":1,"b":2}\n'),
        ({"5": 1, "7": 2}, '{"time":"5","value":1}\n{"time":"7","value":2}\n'),
        ({"0": "one", "1": "two"}, "one\ntwo\n"),
        (["one", "two"], "one\ntwo\n"),
        ([["a", "x"], ["b", 2]], "a\tx\nb\t2\n"),
    ],
)
def test_the_command_that_is_advised_writes_a_row_a_line(
    value: object, output: str, tmp_path: Path
) -> None:
    text = json.dumps(value, indent=1)
    (tmp_path / "FILE").write_text(text)
    command = advise_layout(text).split(": ", 1)[1].rsplit(" > ", 1)[0]
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode() == output


def test_each_of_several_lists_has_its_own_file() -> None:
    assert advise_object({"train": ROWS, "a/b": ROWS}) == (
        "One row a line, a file for each list: jq -c '.train[]' FILE > train.jsonl;  "
        "jq -c '.[\"a/b\"][]' FILE > a_b.jsonl"
    )


def test_several_objects_are_put_on_one_line_each() -> None:
    text = json.dumps(ROWS[0], indent=1) * 2
    assert advise_layout(text) == (
        "An object over several lines?  One a line: jq -c . FILE > fixed.jsonl"
    )


def test_a_fault_of_json_has_its_line_and_column() -> None:
    text = '{\n"text": "a"\n"label": "b"}'
    assert advise_layout(text) == "Line 3, column 1: Expecting ',' delimiter.  Mend it there."


def test_one_row_and_values_of_other_kinds_are_told_nothing() -> None:
    assert advise_object({"text": "a", "tags": [1, 2]}) == ""
    assert advise_object({"text": [], "label": []}) == ""
    assert advise_layout("[1, {}]") == advise_layout("[[]]") == ""


def test_numbers_are_told_how_a_series_is_written() -> None:
    assert advise_layout("[1, 2.5]").startswith("A series? Write one object for each of its times")


@pytest.mark.skipif(shutil.which("jq") is None, reason="runs jq")
@pytest.mark.parametrize(
    ("value", "place"),
    [([{"rows": ROWS}], ".[]"), ({"a": [{"n": {"rows": ROWS}}]}, '.["a"][]')],
)
def test_rows_of_an_object_in_a_list_are_found_in_the_file(
    value: object, place: str, tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_text(json.dumps(value))
    inner = value[0] if isinstance(value, list) else {"n": {"rows": ROWS}}
    command = advise_object(inner, place).split(": ", 1)[1].rsplit(" > ", 1)[0]
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode() == LINES


def test_texts_that_are_deeper_have_their_paths() -> None:
    value = {"id": 1, "data": {"text": "a b"}, "marks": [{"by": [{"is": "x"}]}]}
    assert advise_nested(value, ".[]") == (
        "Texts are deeper: .data.text, .marks[0].by[0].is.  Name those that are read: "
        "jq -c '.[]|{text: .PATH, label: .PATH}' FILE > fixed.jsonl"
    )
    assert advise_nested({"id": 1}) == ""


@pytest.mark.skipif(shutil.which("jq") is None, reason="runs jq")
@pytest.mark.parametrize(
    ("text", "place"), [('[{"paragraphs": [{}]}]', ".[]"), ('{"paragraphs": [{}]}', "")]
)
def test_articles_of_squad_are_put_under_their_key(text: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text(text)
    advice = advise_nested({"paragraphs": [{}]}, place)
    command = advice.split("?  ", 1)[1].rsplit(" > ", 1)[0]
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"data": [{"paragraphs": [{}]}]}


def test_a_list_of_one_text_becomes_the_text() -> None:
    assert advise_list_of_one({"label": ["x"]}, "label") == (
        "The text in its list: jq -c '.label|=.[0]' FILE > fixed.jsonl"
    )
    assert advise_list_of_one({"label": ["x", "y"]}, "label") == ""
    assert advise_list_of_one({"label": [[0, 3, "PER"]]}, "label") == ""
