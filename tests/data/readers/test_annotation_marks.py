"""Rows that annotators rejected, in exports of tools for annotation."""

import json

import pytest

from regard.data.readers.json_lines import json_records
from regard.data.readers.questions import inspect_questions, read_questions
from regard.data.readers.running_text import read_text
from regard.data.readers.source import open_source
from regard.data.readers.table_inspection import inspect_records
from regard.data.readers.tables import read_pairs, read_records
from regard.data.readers.text_lines import open_text


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def pairs(tmp_path):
    accepted = {"source": "a", "target": "b", "answer": "accept"}
    return write(tmp_path / "pairs.jsonl", accepted, accepted | {"source": "c", "answer": "ignore"})


def test_rejected_pairs_are_left_out_and_named(pairs):
    rejected = []
    assert read_pairs(pairs, rejected=rejected).sources == ["a"]
    assert [(row.line, row.text, row.reason) for row in rejected] == [
        (2, "c", "marked as answer: ignore")
    ]


def test_rejected_rows_of_a_table_of_pairs_are_left_out(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("source\ttarget\tanswer\na\tb\taccept\nc\td\treject\n")
    assert read_pairs(path).sources == ["a"]


def test_rejected_questions_are_left_out(tmp_path):
    asked = {"context": "Ada met Bob.", "question": "Who?", "answers": ["Ada"]}
    path = write(tmp_path / "a.jsonl", asked | {"answer": "accept"}, asked | {"answer": "reject"})
    read = read_questions(path)
    assert (len(read.questions), read.dropped[0].line) == (1, 2)
    assert "answer is reject or ignore" in inspect_questions(open_source(path)).text


def test_an_answer_that_is_read_is_no_mark(tmp_path):
    row = {"context": "They reject it.", "question": "What do they do?", "answer": "reject"}
    assert read_questions(write(tmp_path / "a.jsonl", row)).questions.answers == [("reject",)]


def test_rejected_running_text_is_left_out(tmp_path):
    rows = [{"text": "a", "answer": "accept"}, {"text": "b", "answer": "reject"}]
    rejected = []
    assert read_text(write(tmp_path / "a.jsonl", *rows), rejected=rejected).texts == ["a"]
    assert [row.text for row in rejected] == ["b"]


def test_texts_that_are_only_read_keep_rejected_rows(tmp_path):
    path = write(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b", "answer": "reject"})
    assert [text for _, (text,) in read_records(path, ("text",))] == ["a", "b"]


def test_the_first_look_says_which_rows_are_left_out(tmp_path):
    row = {"text": "a", "label": "b", "answer": "accept", "_view_id": "x"}
    read_as = inspect_records(open_source(write(tmp_path / "a.jsonl", row)), ["text", "label"], "t")
    expected = "(without rows whose answer is reject or ignore, not used: _view_id)"
    assert read_as.text == f"t, columns text, label {expected}"
    assert read_as.unused == ("_view_id",)


def test_marks_are_not_proposed_as_labels(tmp_path):
    texts = [f"a long text number {i}" for i in range(10)]
    rows = [
        {"text": text, "accept": [("x", "y")[i % 2]], "answer": "accept"}
        for i, text in enumerate(texts)
    ]
    file = open_text(write(tmp_path / "a.jsonl", *rows), "utf-8")
    lines = enumerate(file.content.decode().splitlines(), start=1)
    assert not list(
        json_records(file, lines, lambda _: None, ["source", "target"], takes_numbers=False)
    )
    assert "`data.columns=text,accept` `task=classification`" in file.problems[0].remedy
