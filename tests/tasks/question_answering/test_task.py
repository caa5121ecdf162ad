"""Runs that learn to answer: from a file to answers, as a user calls them."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.answers import write_questions

import regard
from regard.__main__ import main
from regard.data.question_rows import Questions
from regard.errors import ConfigError, DataError, WeightsError
from regard.hub.model_folder import ModelFolder
from regard.runs.run import resume, train
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions
from regard.tasks.question_answering.data import read_question_data
from regard.tasks.question_answering.evaluation import answer_test_report
from regard.training.events import Evaluated
from regard.training.signals import Stopped, request_stop

SETTINGS = (
    "model.dim=16",
    "model.hidden_dim=32",
    "model.num_heads=2",
    "model.num_layers=1",
    "tokenizer.vocab_size=400",
    "training.batch_tokens=512",
    "training.epochs=2",
    "training.precision=float32",
    "data.max_length=64",
    "qa.overlap=16",
)
RULES = {"num_words": 25, "num_facts": 2, "unanswerable": 0.4}
CONTEXT = "In 1900 the old mill opens at noon. The code of Ada Lo is 1234."


def run(capsys, *words: Any) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def feed(monkeypatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("data") / "q.jsonl", 120, 1, **RULES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data) -> Path:
    path = tmp_path_factory.mktemp("models") / "qa"
    train(data, path, settings=SETTINGS)
    return path


@pytest.fixture(scope="module")
def asked_file(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("test") / "t.jsonl", 20, 9, **RULES)


def test_a_run_keeps_its_threshold_in_the_folder(folder) -> None:
    values = json.loads((folder / "calibration.json").read_text())
    assert values.keys() == {"no_answer_threshold"}
    model: Any = regard.load(folder)
    assert model.threshold == values["no_answer_threshold"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "calibration.json" in manifest["files"]


def test_a_changed_threshold_is_noticed(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "calibration.json"
    path.write_text('{"no_answer_threshold": 5.0}')
    with pytest.raises(WeightsError, match=r"calibration.json: changed or damaged"):
        regard.load(tmp_path / "copy")
    path.write_text('{"no_answer_threshold": "x"}')
    ModelFolder(tmp_path / "copy").manifest.accept()
    with pytest.raises(WeightsError, match=r"calibration.json: not an object of numbers"):
        regard.load(tmp_path / "copy")


def test_a_removed_threshold_and_one_from_elsewhere_are_noticed(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    copy = ModelFolder(tmp_path / "copy")
    (copy.path / "calibration.json").unlink()
    with pytest.raises(WeightsError, match=r"calibration.json: missing\."):
        regard.load(copy.path)
    copy.manifest.accept()
    assert regard.load(copy.path).threshold is None
    (copy.path / "calibration.json").write_text('{"no_answer_threshold": -5.0}')
    with pytest.raises(WeightsError, match=r"calibration.json: not written by this run"):
        regard.load(copy.path)
    copy.manifest.accept()
    assert regard.load(copy.path).threshold == -5


def test_a_run_killed_before_its_threshold_was_written_opens(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    copy = ModelFolder(tmp_path / "copy")
    (copy.path / "calibration.json").unlink()
    (copy.path / "metrics.jsonl").write_text("")
    copy.manifest.record_lines("metrics.jsonl", b"")
    assert regard.load(copy.path).threshold is None


def test_long_texts_do_not_ask_for_a_larger_model(tmp_path) -> None:
    path = write_questions(tmp_path / "q.jsonl", 60, 1, num_words=2200)
    data = read_question_data(ReadOptions(data=DataConfig(path=str(path)), seed=1))
    assert sum(map(len, data.train.contexts)) > 400_000
    assert 20_000 < data.facts().num_chars < 40_000
    assert data.vocab_size == 3000


def test_the_card_says_what_the_figures_are(folder) -> None:
    card = (folder / "README.md").read_text()
    assert "| test | exact_match |" in card
    assert "| test | no_answer_f1 |" in card
    assert "nats more likely than the best answer, chosen on the validation questions" in card
    assert f"regard.load({str(folder)!r}).answer(" in card
    assert "context=open('FILE').read())" in card


def test_the_best_weights_are_those_of_the_highest_f1(folder) -> None:
    lines = ModelFolder(folder).read_metrics()
    scores = [line["score"] for line in lines if line["event"] == "evaluated"]
    assert {line["score_name"] for line in lines if line["event"] == "evaluated"} == {"f1"}
    best = [line["score"] for line in lines if line.get("is_best")]
    assert best[-1] == max(scores)


def test_one_question_has_one_answer_and_lists_have_lists(folder) -> None:
    model: Any = regard.load(folder)
    model.threshold = None
    one = model.answer("What is the code of Ada Lo?", CONTEXT)
    assert CONTEXT[one.start : one.end] == one.answer
    assert 0 < one.probability <= 1
    many = model.answer(["What is the code of Ada Lo?", "When?"], CONTEXT)
    assert len(many) == 2
    assert many[0].answer == one.answer
    pairs = model.answer(["Who?", "What is the code of Ada Lo?"], ["A cat.", CONTEXT])
    assert pairs[1].start == one.start
    assert model.answer([], []) == []
    with pytest.raises(ConfigError, match="2 questions and 1 contexts"):
        model.answer(["a?", "b?"], [CONTEXT])
    with pytest.raises(ConfigError, match="question 1 is empty"):
        model.answer(" ", CONTEXT)


def test_the_threshold_decides_between_a_span_and_no_answer(folder) -> None:
    model: Any = regard.load(folder)
    for threshold, is_given in ((-1e6, False), (1e6, True), (None, True)):
        model.threshold = threshold
        result = model.answer("What is the code of Ada Lo?", CONTEXT)
        assert (result.answer is not None) == is_given
        assert (result.start is None) != is_given


def test_an_empty_text_has_no_answer(folder) -> None:
    model: Any = regard.load(folder)
    result = model.answer("Who?", "")
    assert (result.answer, result.probability) == (None, 1.0)


def test_answer_prints_the_answer_with_its_place(capsys, folder, tmp_path) -> None:
    path = tmp_path / "c.md"
    path.write_bytes(b"\xef\xbb\xbf" + CONTEXT.replace(". ", ".\r\n").encode())
    code, out, _ = run(
        capsys, "answer", folder, "--context", path, "What is the code of Ada Lo?",
        "--threshold", 1e6,
    )  # fmt: skip
    assert code == 0
    text, place, probability = out.rstrip("\n").split("\t")
    start, end = map(int, place.split("-"))
    context = CONTEXT.replace(". ", ".\r\n")
    assert context[start:end].replace("\r", "\\r").replace("\n", "\\n") == text
    assert 0 <= float(probability) <= 1
    code, out, _ = run(capsys, "answer", folder, "--context", path, "Who?", "--threshold", -1e6)
    assert out.startswith("(no answer)\t\t")


def test_answer_reads_questions_from_standard_input(capsys, monkeypatch, folder, tmp_path) -> None:
    path = tmp_path / "c.txt"
    path.write_text(CONTEXT)
    feed(monkeypatch, "Who?\n\nWhat is the code of Ada Lo?\n")
    code, out, _ = run(capsys, "answer", folder, "-", "--context", path, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["line"] for row in rows] == [1, 2, 3]
    assert rows[1]["answer"] is None
    assert rows[1]["probability"] == 0
    assert rows[0].keys() == {"line", "question", "answer", "start", "end", "probability"}


def test_an_empty_question_is_named_by_its_line(capsys, folder, tmp_path) -> None:
    path, asked = tmp_path / "c.txt", tmp_path / "q.csv"
    path.write_text(CONTEXT)
    code, out, err = run(capsys, "answer", folder, "", "--context", path)
    assert (code, out) == (0, "(no answer)\t\t0.000\n")
    assert err == "regard: note: line 1: the question is empty, so nothing is asked.\n"
    asked.write_text(f'context,question\n"{CONTEXT}",Who?\n"{CONTEXT}",\n')
    _, _, err = run(capsys, "answer", folder, asked)
    assert err == "regard: note: line 3: the question is empty, so nothing is asked.\n"


def test_a_context_that_is_a_table_is_noted(capsys, folder, tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"context": CONTEXT}) + "\n")
    code, _, err = run(capsys, "answer", folder, "Who?", "--context", path)
    assert (code, err) == (0, f"regard: note: {path}: read as one text, not as rows.\n")


def test_answer_reads_the_context_from_standard_input(capsys, monkeypatch, folder) -> None:
    feed(monkeypatch, CONTEXT)
    code, out, _ = run(capsys, "answer", folder, "Who?", "--context", "-", "--json")
    assert code == 0
    assert json.loads(out)["question"] == "Who?"


def test_rows_in_are_objects_out(capsys, monkeypatch, folder, tmp_path) -> None:
    rows = [{"context": CONTEXT, "question": "Who?", "id": f"r{n}"} for n in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    feed(monkeypatch, lines)
    code, out, _ = run(capsys, "answer", folder, "-")
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["r0", "r1", "r2"]
    article = {"paragraphs": [{"context": CONTEXT, "qas": [{"question": "Who?", "id": "s"}]}]}
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"data": [article]}))
    code, out, _ = run(capsys, "answer", folder, path)
    assert json.loads(out)["id"] == "s"
    table = tmp_path / "t.csv"
    table.write_text(f'context,question\n"{CONTEXT}",Who?\n')
    code, out, _ = run(capsys, "answer", folder, table)
    assert json.loads(out)["line"] == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("Who?",), 2, "no context.  Name the text that has the answer, --context FILE"),
        (("-", "--context", "-"), 2, "standard input holds one"),
        (("Who?", "--context", "missing.txt"), 3, "missing.txt: no such file"),
        (("Who?", "--context", "."), 3, ".: a directory, not a file.  Name a file of text."),
        (("Who?", "--context", "c.txt", "--threshold", "nan"), 2, "threshold"),
        (
            ("Who?", "--context", "c.txt", "--precision", "bf16"),
            2,
            "--precision bf16: a model for question-answering writes no text.",
        ),
    ],
)
def test_what_answer_cannot_use_is_named(
    capsys, monkeypatch, folder, tmp_path, words, code, message
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.txt").write_text(CONTEXT)
    result, _, err = run(capsys, "answer", folder, *words)
    assert result == code
    assert message in err


def test_a_model_for_another_task_does_not_answer(capsys, trained, tmp_path) -> None:
    (tmp_path / "c.txt").write_text(CONTEXT)
    code, _, err = run(capsys, "answer", trained, "Who?", "--context", tmp_path / "c.txt")
    assert code == 4
    assert "does not answer questions: it is a model for translation.  Use: regard tran" in err


def test_evaluate_prints_scores_floors_and_the_worst(capsys, folder, asked_file) -> None:
    code, out, _ = run(capsys, "evaluate", folder, asked_file, "--worst", 2, "--compare", folder)
    assert code == 0
    assert "Exact " in out
    assert "Floors  F1 first sentence" in out
    assert 'always "no answer"' in out
    assert "Verdict" in out
    assert f"{folder} against {folder}: +0.0 F1 [+0.0, +0.0], p = 1.000" in out
    assert out.count("Worst ") <= 2
    code, out, _ = run(capsys, "evaluate", folder, asked_file, "--json")
    report = json.loads(out)
    assert report["rows"] == 20
    assert {"exact_match", "f1", "no_answer_f1"} == report["scores"].keys()
    assert report["scores"]["f1"]["low"] <= report["scores"]["f1"]["value"]
    assert report["worst"][0].keys() >= {"where", "question", "answer", "expected"}
    assert report["task"] == "question-answering"


def test_training_questions_are_not_a_test(capsys, folder, data) -> None:
    code, _, err = run(capsys, "evaluate", folder, data)
    assert code == 3
    assert "questions also stand in" in err
    assert "--drop-overlap" in err


def test_check_counts_what_matters(capsys, data) -> None:
    code, out, _ = run(capsys, "check", data)
    assert code == 0
    assert "read as questions on texts, columns context, question, answers" in out
    assert "questions without an answer" in out
    code, out, _ = run(capsys, "check", data, "--json")
    report = json.loads(out)
    assert report["num_unanswerable"] > 0
    assert report["rows"] == 120


def test_info_names_the_verb(capsys, folder) -> None:
    code, out, _ = run(capsys, "info", folder, "--json")
    assert code == 0
    assert f"regard answer {folder} questions.jsonl" in json.loads(out)["uses"]
    code, out, _ = run(capsys, "info", folder)
    assert "roles of tokens" in out
    assert "1 layers" in out


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_weights_and_threshold(data, folder, tmp_path) -> None:
    def stop_after_evaluation(event: Any) -> None:
        if isinstance(event, Evaluated):
            request_stop()

    path = tmp_path / "out"
    with pytest.raises(Stopped):
        train(data, path, settings=SETTINGS, report=stop_after_evaluation)
    assert not (path / "calibration.json").exists()
    resume(path)
    assert (path / "calibration.json").read_text() == (folder / "calibration.json").read_text()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("data.columns=context,question", ConfigError, "3 columns are expected"),
        ("data.max_length=8", ConfigError, "no room for a question and a text"),
        ("qa.negatives=0", ConfigError, "negatives must be 1 or more"),
        ("qa.overlp=3", ConfigError, "Did you mean qa.overlap"),
        ("model.family=gpt", ConfigError, "does not answer questions"),
    ],
)
def test_settings_that_cannot_be_are_refused(data, tmp_path, name, error, message) -> None:
    with pytest.raises(error, match=message):
        train(data, tmp_path / "out", settings=(*SETTINGS[:-2], name))


def test_data_without_any_answer_has_nothing_to_learn(tmp_path) -> None:
    path = tmp_path / "q.jsonl"
    row = {"context": CONTEXT, "question": "Who?", "answers": ["Paris"]}
    path.write_text("".join(json.dumps(row | {"question": f"Who {n}?"}) + "\n" for n in range(30)))
    with pytest.raises(DataError, match=r"no question has an answer|cannot hold out|no row"):
        train(path, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["longformer", "transformer"])
def test_every_family_of_encoders_learns_and_opens_again(data, tmp_path, family) -> None:
    name = "model.num_encoder_layers=1" if family == "transformer" else "model.num_layers=1"
    settings = [text for text in SETTINGS if "num_layers" not in text and "epochs" not in text]
    train(
        data,
        tmp_path / "out",
        settings=(*settings, f"model.family={family}", name, "training.epochs=1"),
    )
    model: Any = regard.load(tmp_path / "out")
    assert model.answer("What is the code of Ada Lo?", CONTEXT).probability > 0


def test_questions_and_contexts_that_are_not_texts_are_refused(folder) -> None:
    answerer = regard.load(folder)
    for question, context, message in (
        (None, "a", "questions: a text or a list of texts was expected, not NoneType"),
        (["a", 5], "a", r"questions\[1\]: a text was expected, not int"),
        (["a"], {"a": "b"}, "contexts: a text or a list of texts was expected, not dict"),
        ("a", "b\ud800", r"contexts\[0\]: half of a character"),
    ):
        with pytest.raises(ConfigError, match=message):
            answerer.answer(question, context)


def test_a_beam_is_refused_where_nothing_is_searched_for(capsys, folder, data) -> None:
    code, _, err = run(capsys, "evaluate", folder, data, "--beam", 2)
    assert code == 2
    assert err == "regard: --beam 2: a model for question-answering has no beam search.\n"


def test_a_window_without_room_for_a_text_names_the_least_length(capsys, data, tmp_path) -> None:
    words = ("train", data, "-o", tmp_path / "m", "--dry-run", "--set", "data.max_length=10")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err == (
        "regard: data.max_length=10: no room for a question and a text.  "
        "The least is --set data.max_length=19.\n"
    )


def test_the_end_of_a_run_compares_with_the_best_floor():
    questions = Questions.empty("q.jsonl")
    for row, (question, answer) in enumerate([("What is old?", "mill"), ("What is new?", "fence")]):
        questions.contexts.append("The mill is old. The fence is new.")
        questions.questions.append(question)
        questions.answers.append((answer,))
        questions.starts.append((0,))
        questions.lines.append(row)
    dataset = SimpleNamespace(test=questions, example=lambda: "q", describe_sizes=lambda: "2")
    valid = {"f1": 1.0, "exact_match": 1.0}
    report = answer_test_report(dataset, ["mill", "mill"], valid, threshold=None, kind="a model")
    # Three words of a sentence, one of them the answer: F1 is 2 * 1/3 / (1 + 1/3).
    assert report.test["overlap_sentence_f1"] == pytest.approx(50.0)
    assert report.summary.endswith("(the sentence with most words of the question: F1 50.0)")
