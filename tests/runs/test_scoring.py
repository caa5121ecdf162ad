"""Evaluation names data that is for another task."""

import json

import pytest

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
