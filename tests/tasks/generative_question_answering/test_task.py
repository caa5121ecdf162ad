"""Models that write answers: from a file to answers, as a user calls them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.answers import write_questions
from msgspec.structs import replace
from tests.conftest import TINY
from tests.setup.decide import decide

import regard
from regard.__main__ import main
from regard.data.batching import TokenRows
from regard.data.readers.source import open_source
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import ConfigError, DataError
from regard.explain.open_prediction import predict
from regard.hub.model_folder import ModelFolder
from regard.runs.run import resume, train
from regard.setup.build import measure_sources
from regard.setup.config import DataConfig, RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.evaluation_report import EvaluationOptions
from regard.setup.facts import SourceLengths
from regard.setup.pretrained import read_pretrained
from regard.setup.request import Request
from regard.tasks import task_named, task_of, task_of_published
from regard.tasks.generative_question_answering.data import encode_sources, read_written_answers
from regard.tasks.generative_question_answering.predictor import AnswerWriter, WrittenAnswer
from regard.tasks.question_answering.evaluation import evaluate_answers
from regard.training.events import Evaluated, Warned
from regard.training.signals import Stopped, request_stop

SETTINGS = (
    *TINY[:-2],
    "qa.kind=generative",
    "training.batch_tokens=1024",
    "training.epochs=1",
    "training.precision=float32",
)
RULES = {"num_words": 25, "num_facts": 2, "unanswerable": 0.4}
CONTEXT = "In 1900 the old mill opens at noon. The code of Ada Lo is 1234."
QUESTION = "What is the code of Ada Lo?"


def run(capsys, *words: Any) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("data") / "q.jsonl", 80, 1, **RULES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data) -> Path:
    path = tmp_path_factory.mktemp("models") / "qa"
    train(data, path, settings=SETTINGS)
    return path


@pytest.fixture
def writer(folder) -> AnswerWriter:
    model = regard.load(folder)
    assert isinstance(model, AnswerWriter)
    return model


def test_the_kind_copies_and_is_kept_with_its_threshold(folder, writer) -> None:
    assert writer.config.qa.kind == "generative"
    assert writer.model.copy_head is not None
    assert writer.model.config.positions == "rotary"
    assert writer.model.config.separator_id == writer.tokenizer.end_id
    assert task_of(writer.config).writes_targets
    assert not task_named("question-answering").writes_targets
    values = json.loads((folder / "calibration.json").read_text())
    assert values == {"no_answer_threshold": writer.threshold}
    assert "A model that writes answers to questions on texts" in (folder / "README.md").read_text()


@torch.inference_mode()
def test_probabilities_are_those_of_the_model(writer, monkeypatch) -> None:
    monkeypatch.setattr(writer, "precision", "float32")
    (output,) = writer.write_answers([QUESTION], [CONTEXT])
    (source,) = encode_sources([QUESTION], [CONTEXT], writer.tokenizer, 2, writer.config)
    (best,) = writer.decode(TokenRows([source]), replace(writer.search_config(), min_length=2))
    for target, value in (((), output.log_null), (best[0].ids, output.log_probability)):
        logits = writer.model(torch.tensor([[*source, 2]]), torch.tensor([[1, *target]]))
        is_cut = target and not best[0].is_complete  # it has no end then
        labels = torch.tensor(target if is_cut else [*target, 2])[:, None]
        expected = logits[0, : len(labels)].log_softmax(-1).gather(1, labels).sum()
        assert value == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "log_null", "threshold", "expected"),
    [
        ("1234", -3.0, None, ("1234", 58, 62, math.exp(-1))),
        ("the code", -3.0, None, ("the code", None, None, math.exp(-1))),
        ("1234", -0.5, None, ("1234", 58, 62, math.exp(-1))),
        ("1234", -0.5, 0.4, (None, None, None, math.exp(-0.5))),
        ("1234", -0.5, 0.6, ("1234", 58, 62, math.exp(-1))),
        ("", -0.5, None, (None, None, None, math.exp(-0.5))),
    ],
)
def test_an_answer_has_its_place_where_the_text_has_it(
    monkeypatch, writer, text, log_null, threshold, expected
) -> None:
    output = WrittenAnswer(text=text, log_probability=-1.0, log_null=log_null, truncated=0)
    monkeypatch.setattr(writer, "write_answers", lambda *_: [output])
    writer.threshold = threshold
    result = writer.answer(QUESTION, CONTEXT)
    assert (result.answer, result.start, result.end) == expected[:3]
    assert result.probability == pytest.approx(expected[3])


def test_the_threshold_decides_between_an_answer_and_none(writer) -> None:
    for threshold, is_given in ((-1e6, False), (1e6, True), (None, True)):
        writer.threshold = threshold
        many = writer.answer([QUESTION, "Who?"], CONTEXT)
        assert [result.answer is not None for result in many] == [is_given, is_given]
        assert all(0 < result.probability <= 1 for result in many)
    assert writer.answer([], []) == []
    blank = writer.answer("Who?", " ")
    assert (blank.answer, blank.probability) == (None, 1.0)


def test_evaluate_reports_what_it_reports_of_models_that_find_answers(
    capsys, folder, data, tmp_path
) -> None:
    test_file = write_questions(tmp_path / "t.jsonl", 12, 9, **RULES)
    code, out, _ = run(
        capsys, "evaluate", folder, test_file, "--json", "--beam", 1, "--compare", folder
    )
    report = json.loads(out)
    assert code == 0
    assert (report["task"], report["rows"]) == ("question-answering", 12)
    assert report["scores"].keys() == {"exact_match", "f1", "no_answer_f1"}
    assert report["floors"].keys() >= {"first_sentence_f1", "overlap_sentence_f1"}
    assert report["comparison"]["f1"]["difference"] == 0
    assert report["worst"][0].keys() >= {"where", "question", "answer", "expected"}


def test_answer_prints_a_text_and_its_place(capsys, monkeypatch, folder, tmp_path) -> None:
    (tmp_path / "c.txt").write_text(CONTEXT)
    outputs = [WrittenAnswer(text="of\tit", log_probability=-1.0, log_null=-9.0, truncated=3)]
    monkeypatch.setattr(AnswerWriter, "write_answers", lambda *_: outputs)
    words = ("answer", folder, QUESTION, "--context", tmp_path / "c.txt", "--threshold", 5)
    code, out, err = run(capsys, *words)
    assert (code, out) == (0, "of\\tit\t\t0.368\n")
    assert err == (
        "regard: warning: 1 context is longer than the model reads: the rest was cut off.\n"
    )
    code, out, _ = run(capsys, *words, "--json")
    fields = json.loads(out)
    assert fields == {
        "line": 1,
        "question": QUESTION,
        "answer": "of\tit",
        "start": None,
        "end": None,
        "probability": pytest.approx(math.exp(-1)),
        "truncated": 3,
    }


def test_answers_in_other_words_are_learned(tmp_path) -> None:
    path = tmp_path / "q.jsonl"
    row = {"context": CONTEXT, "question": "Who?", "answers": ["Paris", "Ada Lo"]}
    rows = [row | {"context": f"{n} {CONTEXT}", "question": f"Who {n}?"} for n in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = read_written(path)
    assert sum(dataset.sizes) == 30
    assert set(dataset.train.targets) == {"Paris"}
    assert dataset.train.sources[0].endswith(f"? {dataset.train.contexts[0]}")
    assert dataset.warnings() == ["30 answers are not in their context, and learned as written."]
    path.write_text("".join(json.dumps(row | {"answers": []}) + "\n" for row in rows))
    with pytest.raises(DataError, match="no question has an answer: there is nothing to learn"):
        read_written(path)


def test_training_questions_with_answers_in_other_words_are_not_a_test(writer, tmp_path) -> None:
    path = tmp_path / "q.jsonl"
    row = {"question": "Who?", "answers": ["Paris"]}
    rows = [row | {"context": f"{number} {CONTEXT}"} for number in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    writer.config = replace(writer.config, data=replace(writer.config.data, path=str(path)))
    with pytest.raises(DataError, match="questions also stand in"):
        evaluate_answers(writer, open_source(path), EvaluationOptions(model="qa"))


@pytest.mark.slow
def test_what_is_cut_is_said(data, tmp_path) -> None:
    events: list[Any] = []
    settings = (*SETTINGS, "data.max_source_length=20")
    train(data, tmp_path / "cut", settings=settings, report=events.append)
    (text,) = [event.text for event in events if isinstance(event, Warned)]
    model: Any = regard.load(tmp_path / "cut")
    rows = read_written_answers(ReadOptions.from_config(model.config)).train
    tokenizer, config = model.tokenizer, model.config
    sources = encode_sources(rows.questions, rows.contexts, tokenizer, 2, config)
    longest = max(map(len, sources))
    assert text == (
        f"{len(rows)} of {len(rows)} training questions with their texts are longer than 20 "
        f"tokens: the rest is cut off.  Whole: `data.max_source_length={longest}`"
    )
    result = model.answer(QUESTION, CONTEXT)
    (row,) = encode_sources([QUESTION], [CONTEXT], tokenizer, 2, config)
    assert result.truncated == len(row) - 20 > 0
    report = regard.evaluate(tmp_path / "cut", data, allow_overlap=True)
    assert ("Cut", "the end of 80 contexts was not read") in list(report.lines())


def read_written(path: Path) -> Any:
    return read_written_answers(ReadOptions(data=DataConfig(path=str(path)), seed=1))


def test_a_long_context_is_read_in_windows_that_see_the_question() -> None:
    def decide_for(beginning: int) -> RunConfig:
        sources = SourceLengths(usual=3000, longest=3000, longest_target=9, beginning=beginning)
        return decide("qa.kind=generative", task="question-answering", sources=sources)

    assert decide_for(3).attention.encoder == "local:256|global:0,1,2"
    assert decide_for(900).attention.encoder.endswith(",62,63")
    assert decide_for(3).search.max_length == 12
    assert decide_for(3).data.max_source_length == 4096


def test_settings_of_windows_are_refused(data, tmp_path) -> None:
    for setting in ("qa.overlap=3", "qa.match_words=false", "qa.negatives=1"):
        with pytest.raises(ConfigError, match=r"with qa.kind=generative, which has no windows"):
            train(data, tmp_path / "out", settings=(*SETTINGS, setting))
    with pytest.raises(ConfigError, match=r"^qa\.kind=other: one of extractive, generative"):
        train(data, tmp_path / "out", settings=("qa.kind=other",))


def test_a_start_of_the_other_kind_is_refused_by_name(capsys, folder, trained, data) -> None:
    def read(folder: Path, *settings: str) -> Any:
        request = Request.parse([f"start_from={folder}", *settings])
        draft = request.bind_all_but_model(RunConfig())
        task = task_named("question-answering").for_config(draft)
        return read_pretrained(request, task, task_of, task_of_published)

    with pytest.raises(ConfigError, match=r"a model of qa.kind=generative; this run is of qa.kind"):
        read(folder)
    with pytest.raises(ConfigError, match=r"made for translation; .*`qa.kind=generative`"):
        read(trained)
    assert read(folder, "qa.kind=generative").config.qa.kind == "generative"
    started = read(trained, "qa.kind=generative").config
    assert (started.task, started.qa.kind) == ("question-answering", "generative")
    code, _, err = run(capsys, "train", data, "--from", folder, "--dry-run")
    assert code == 2
    assert err.endswith("Train a model of that kind: --set qa.kind=generative\n")


def test_check_and_info_know_the_kind(capsys, data, folder) -> None:
    code, out, _ = run(capsys, "check", data, "--set", "qa.kind=generative", "--json")
    report = json.loads(out)
    assert (code, report["task"], report["rows"]) == (0, "question-answering", 80)
    assert "--set qa.kind=generative" in report["next"]
    code, out, _ = run(capsys, "info", folder)
    assert code == 0
    assert "copy mechanism" in out


def test_a_copy_mechanism_is_not_exported(capsys, folder, tmp_path) -> None:
    code, _, err = run(capsys, "export", folder, "-o", tmp_path / "hf")
    assert code == 2
    assert "model.has_copy=true: pegasus checkpoints have no copy mechanism." in err


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_weights_and_threshold(data, folder, tmp_path) -> None:
    def stop_after_evaluation(event: Any) -> None:
        if isinstance(event, Evaluated):
            request_stop()

    path = tmp_path / "out"
    settings = (*SETTINGS, "training.epochs=2")
    whole = tmp_path / "whole"
    train(data, whole, settings=settings)
    with pytest.raises(Stopped):
        train(data, path, settings=settings, report=stop_after_evaluation)
    resume(path)
    for name in ("calibration.json",):
        assert (path / name).read_text() == (whole / name).read_text()
    first, second = (ModelFolder(folder).read_weights() for folder in (path, whole))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_answer_may_be_as_long_in_tokens_as_those_of_training(tmp_path) -> None:
    words = [f"word{'s' * 40} again {n}" for n in range(40)]  # long, and of few tokens
    rows = [
        {"context": f"{word} x#!?:;,. {n}", "question": f"What {n}?", "answers": [answer]}
        for n, word in enumerate(words)
        for answer in (word[:45], "x#!?:;,.")
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = read_written(path)
    tokenizer = Tokenizer.train(dataset.texts(), TokenizerConfig(vocab_size=400))
    sources = measure_sources(dataset, tokenizer)
    assert sources is not None
    assert sources.longest_target == max(map(len, tokenizer.encode(["x#!?:;,.", words[0][:45]])))


def test_a_kind_of_answers_is_refused_for_other_data(capsys, pairs_file) -> None:
    for verb in ("check", "train"):
        more = ("-o", "unused", "--dry-run") if verb == "train" else ()
        code, _, err = run(capsys, verb, pairs_file, "--set", "qa.kind=generative", *more)
        assert code == 2
        assert err == (
            "regard: qa.kind=generative: a kind of question answering; the data is for "
            "translation.  Rows with context, question and answers are for --set "
            "task=question-answering\n"
        )
    code, _, _ = run(capsys, "check", pairs_file, "--set", "qa.kind=extractive")
    assert code == 0


@pytest.mark.slow
def test_models_of_both_kinds_are_compared(folder, data, tmp_path) -> None:
    settings = ("model.dim=16", "model.num_heads=2", "model.num_layers=1", "training.epochs=1")
    train(data, tmp_path / "spans", settings=(*settings, "tokenizer.vocab_size=400"))
    test_file = write_questions(tmp_path / "t.jsonl", 12, 9, **RULES)
    report: Any = regard.evaluate(folder, test_file, compare=tmp_path / "spans")
    inverse: Any = regard.evaluate(tmp_path / "spans", test_file, compare=folder)
    assert report.comparison.f1.difference == pytest.approx(-inverse.comparison.f1.difference)
    assert report.num_questions == inverse.num_questions == 12


@pytest.mark.parametrize(("threshold", "has_answer"), [(-1e9, False), (1e9, True)])
def test_the_explained_answer_is_the_one_that_is_given(writer, threshold, has_answer) -> None:
    writer.threshold = threshold
    prediction = predict(writer, QUESTION, context=CONTEXT)
    answer = writer.answer(QUESTION, CONTEXT).answer
    assert (answer is not None) is has_answer
    texts = [output.text for output in prediction.outputs]
    assert (texts == ["</s>"]) is not has_answer
    assert prediction.notes == (
        () if has_answer else ('The answer is "no answer", an empty output.',)
    )
