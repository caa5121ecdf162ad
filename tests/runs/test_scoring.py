"""Evaluation names data that is for another task."""

import json

import pytest

import regard
from regard.errors import DataError
from regard.runs.scoring import evaluate


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"text": "a good film", "label": "good"}, "classification"),
        ({"document": "a b. c d.", "summary": "a b"}, "summarization"),
        ({"context": "a b", "question": "b?", "answers": ["a"]}, "question-answering"),
    ],
)
def test_data_for_another_task_is_named(trained, tmp_path, row, task):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=rf"rows\.jsonl: data for {task}; .* is for translation\."):
        evaluate(trained, path)


def test_pairs_of_the_training_data_are_named_as_such(trained, pairs_file):
    with pytest.raises(DataError, match="Scores would be too good"):
        evaluate(trained, pairs_file)


@pytest.mark.slow
def test_rows_in_memory_are_scored_as_their_file_is(trained, pairs_file, tmp_path):
    pairs = [line.split("\t") for line in pairs_file.read_text().splitlines()[:8]]
    path = tmp_path / "pairs.tsv"
    path.write_text("".join("\t".join(pair) + "\n" for pair in pairs))
    of_file = regard.evaluate(trained, path, allow_overlap=True, beam=1)
    records = [dict(zip(("source", "target"), pair, strict=True)) for pair in pairs]
    for rows in (list(map(tuple, pairs)), records):
        report = regard.evaluate(trained, rows, allow_overlap=True, beam=1)
        assert report.scores == of_file.scores
        assert report.path == "data.jsonl"
    with pytest.raises(DataError, match=r"data\.jsonl: data for classification"):
        regard.evaluate(trained, [{"text": "a good film", "label": "good"}])
