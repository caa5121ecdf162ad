"""Commands that make an object a line of JSON in another layout."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from regard.data.readers.json_advice import advise_layout, advise_object

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
