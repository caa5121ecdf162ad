"""Evaluation of a file: data for another task, and rows that were in the training data."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.conftest import toy_pairs

import regard
from regard.__main__ import main
from regard.data.readers.source import DataSource, open_source
from regard.errors import DataError
from regard.runs.scoring import evaluate
from regard.tasks import TASKS
from regard.tasks.other_data import explain_other_data

WORDS = [word for pair in toy_pairs(60) for word in pair]
ROWS = [f"{text}\t{'en' if row % 2 == 0 else 'de'}\n" for row, text in enumerate(WORDS)]


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


def test_what_data_was_read_as_and_what_the_model_takes_is_said(trained, tmp_path):
    path = tmp_path / "series.csv"
    path.write_text("time,value\n" + "".join(f"2024-01-{d:02d},{d}.25\n" for d in range(1, 29)))
    with pytest.raises(DataError) as caught:
        evaluate(trained, path)
    assert str(caught.value) == (
        f"{path}: data for forecasting; {trained} is for translation.  The data was read as series "
        "with times, columns time, value; the model takes sentence pairs."
    )
    (step,) = caught.value.next_steps
    assert (step.verb, step.arguments) == ("train", (str(path),))


def test_pairs_for_a_model_of_labels_are_said_with_what_is_missing():
    source = DataSource("a.tsv", b"a good film\tein guter Film\n")
    missing = DataError('a.tsv:1: no column "text".')
    with (
        pytest.raises(DataError) as caught,
        explain_other_data(source, TASKS["classification"], "mood"),
    ):
        raise missing
    assert str(caught.value) == (
        'a.tsv:1: no column "text".  Two columns without these names are sentence pairs, data for '
        "translation; mood is for classification, and takes texts with labels."
    )


def test_rows_with_labels_for_a_model_of_running_text_are_warned_of():
    source = DataSource("a.csv", b"text,label\na good film,good\na bad film,bad\n")
    with (
        pytest.warns(UserWarning, match=r"a\.csv: data for classification .*lm continues texts"),
        explain_other_data(source, TASKS["language-modeling"], "lm"),
    ):
        pass


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


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with data, and in a folder of it a model that was trained on ``../data.tsv``."""
    root = tmp_path_factory.mktemp("project")
    (root / "data.tsv").write_text("text\tlabel\n" + "".join(ROWS), encoding="utf-8")
    (root / "test.tsv").write_text("text\tlabel\n" + "".join(ROWS[:20]), encoding="utf-8")
    (root / "models").mkdir()
    settings = ("training.epochs=1", "model.dim=16", "tokenizer.kind=byte")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "models")
        regard.train("../data.tsv", "m", settings=settings, report=None)
    return root


def evaluate_command(capsys, model, data):
    code = main(["evaluate", str(model), str(data)])
    return code, capsys.readouterr().err


def test_rows_of_the_training_data_are_noticed_from_another_directory(
    capsys, monkeypatch, tmp_path, project
):
    for directory in (project, project / "models", tmp_path):
        monkeypatch.chdir(directory)
        code, error = evaluate_command(capsys, project / "models" / "m", project / "test.tsv")
        assert code == 3
        assert "sources also stand in" in error or "inputs are also in" in error


def test_another_file_of_the_same_name_is_not_taken_for_the_training_data(
    capsys, monkeypatch, tmp_path, project
):
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "data.tsv").write_text("text\tlabel\nwhat\tde\nelse\ten\n")
    monkeypatch.chdir(here)  # where ../data.tsv is the other file
    code, error = evaluate_command(capsys, project / "models" / "m", project / "test.tsv")
    assert (code, "are also in" in error) == (3, True)
    assert regard.load(project / "models" / "m").config.data.path == str(project / "data.tsv")


def test_training_data_that_is_gone_or_has_changed_is_noted(capsys, monkeypatch, tmp_path, project):
    shutil.copytree(project / "models" / "m", tmp_path / "a" / "m")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(match=r"data\.tsv: the training data cannot be read"):
        assert evaluate_command(capsys, "a/m", project / "test.tsv")[0] == 0
    (tmp_path / "data.tsv").write_text("text\tlabel\n" + "".join(ROWS[:60]))
    with pytest.warns(match=r"data\.tsv: has changed since the training"):
        assert evaluate_command(capsys, "a/m", project / "test.tsv")[0] == 3
    assert main(["evaluate", "a/m", str(project / "test.tsv"), "--allow-overlap"]) == 0


@pytest.mark.parametrize(
    ("name", "content", "task", "is_noted"),
    [
        ("a.tsv", "a cat sat\teine Katze\n" * 3, "summarization", True),
        ("a.csv", "en,de\n" + "a cat sat,eine Katze\n" * 3, "summarization", True),
        ("a.tsv", "a cat sat on the mat\ta cat\n" * 3, "summarization", False),
        ("a.csv", "document,summary\n" + "a cat sat,a cat sat\n" * 3, "summarization", False),
        ("a.tsv", "a cat sat\teine Katze\n" * 3, "language-modeling", True),
        ("a.txt", "a cat sat\n" * 3, "language-modeling", False),
    ],
)
def test_sentence_pairs_are_noted_by_models_that_read_any_texts(
    name, content, task, is_noted, tmp_path, recwarn
):
    path = tmp_path / name
    path.write_text(content)
    with explain_other_data(open_source(path), TASKS[task], "model"):
        pass
    noted = [str(warning.message) for warning in recwarn]
    assert len(noted) == is_noted
    assert all("looks like sentence pairs, data for translation: model " in note for note in noted)
