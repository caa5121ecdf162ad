"""The verbs choose the task of a published T5: by the data, by languages, or by name."""

from __future__ import annotations

import json
import shutil
import warnings
from typing import Any

import pytest
from tests.tasks.translation.published_pairs import ENGLISH, TEXTS, write_pairs
from tests.tasks.translation.published_t5 import TASKS, t5_folder

import regard
from regard.__main__ import main
from regard.data.readers.memory import source_of_rows
from regard.data.readers.source import as_source
from regard.hub.hugging_face.task_prefixes import read_question_words, read_uses
from regard.runs.export_check import export_model
from regard.runs.information import inspect_folder
from regard.runs.scoring import evaluate
from regard.setup.pretrained import read_pretrained
from regard.setup.request import Request
from regard.tasks import task_of, task_of_published
from regard.tasks.generative_question_answering.predictor import AnswerWriter
from regard.tasks.generative_question_answering.task import GENERATIVE_QUESTION_ANSWERING
from regard.tasks.published_task import task_of_data, task_of_languages

pytestmark = pytest.mark.filterwarnings("ignore:.*cut off at|.*questions are asked as")
DOCUMENTS = [{"document": f"{text} . {ENGLISH}", "summary": text} for text in TEXTS]
QUESTIONS = [
    {"context": ENGLISH, "question": "the dog sees", "answers": ["the cat"], "id": "1"},
    {"context": ENGLISH, "question": "the house by", "answers": ["the old river"], "id": "2"},
]


@pytest.fixture(scope="module")
def t5(transformers, tmp_path_factory):
    """A published folder."""
    return t5_folder(transformers, tmp_path_factory.mktemp("hf") / "t5")


@pytest.mark.slow
def test_summaries_are_evaluated_with_the_prefix_of_their_task(t5):
    evaluation = evaluate(t5, DOCUMENTS)
    expected = regard.load(t5, task="summarization")
    assert evaluation.task == "summarization"
    assert evaluation.predictor.config == expected.config
    assert evaluation.predictor.config.data.source_prefix == TASKS["summarization"]["prefix"]


@pytest.mark.slow
def test_answers_are_evaluated_as_questions_of_t5(t5):
    evaluation = evaluate(t5, QUESTIONS)
    predictor = evaluation.predictor
    assert isinstance(predictor, AnswerWriter)
    assert predictor.config.data.source_prefix == "question: "
    assert predictor.config.qa.context_prefix == " context: "


def test_a_question_and_its_text_are_one_text_for_t5(t5):
    with pytest.warns(UserWarning, match="questions are asked as 'question: ... context: ...'"):
        answerer: Any = regard.load(t5, task="question-answering")
    rows: list[Any] = []
    answerer.decode = lambda sources, search: rows.extend(sources) or 1 / 0
    with pytest.raises(ZeroDivisionError):
        answerer.answer_rows(["the dog"], ["a red house"])
    text = "question: the dog context: a red house"
    assert [list(row) for row in rows] == answerer.tokenizer.encode([text])


def test_a_model_that_starts_from_a_t5_learns_its_words_of_questions(t5):
    request = Request.parse([f"start_from={t5}"])
    task = GENERATIVE_QUESTION_ANSWERING
    pretrained = read_pretrained(request, task, task_of, task_of_published)
    assert pretrained is not None
    assert pretrained.config.qa.context_prefix == " context: "
    assert pretrained.prefixes["question-answering"] == "question: "


def test_pairs_are_translated_between_the_languages_of_their_name(t5, tmp_path):
    (tmp_path / "en-fr").mkdir()
    pairs = write_pairs(tmp_path / "en-fr" / "test.tsv")
    with pytest.warns(UserWarning, match="pairs of en and fr, a guess"):
        assert task_of_data(t5, lambda: as_source(pairs)) == "translation_en_to_fr"
    assert task_of_data(t5, lambda: as_source(pairs), "en-de") == "translation_en_to_de"


def test_data_of_other_tasks_leaves_a_model_its_own(t5):
    labeled = source_of_rows([{"text": text, "label": text[0]} for text in TEXTS])
    assert task_of_data(t5, lambda: labeled) is None
    assert task_of_data(t5.parent, lambda: source_of_rows(DOCUMENTS)) is None


def test_languages_are_found_by_their_names_and_by_the_target_alone(t5):
    assert task_of_languages(t5, "English-German") == "translation_en_to_de"
    assert task_of_languages(t5, "fr") == "translation_en_to_fr"


def test_a_folder_without_the_task_of_a_verb_says_so(t5, tmp_path):
    folder = t5_folder_without(t5, tmp_path, "summarization")
    with pytest.warns(UserWarning, match="texts are read without one"):
        summarizer: Any = regard.load(folder, task="summarization")
    assert not summarizer.config.data.source_prefix


def test_information_names_tasks_and_their_commands(t5):
    information, _ = inspect_folder(t5)
    assert information.tasks == list(TASKS)
    commands = [(step.verb, dict(step.settings).get("lang")) for step in information.commands]
    assert ("translate", "en-fr") in commands
    assert ("summarize", None) in commands
    assert ("translate", None) not in commands


def test_information_names_no_task_that_a_folder_was_not_trained_for(t5, tmp_path):
    folder = t5_folder_without(t5, tmp_path, "translation_en_to_de", "translation_en_to_fr")
    information, _ = inspect_folder(folder)
    assert [(step.verb, step.arguments[-1]) for step in information.commands] == [
        ("summarize", "TEXT"),
        ("evaluate", "documents.jsonl"),
        ("train", "documents.jsonl"),
    ]


@pytest.mark.slow
def test_an_export_has_the_task_that_is_named_or_all_of_them(t5, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        export_model(regard.load(t5), tmp_path / "all")
    export_model(regard.load(t5, task="question-answering"), tmp_path / "answers")
    assert read_uses(tmp_path / "all") == read_uses(t5)
    assert read_question_words(tmp_path / "all") == ("question: ", " context: ")
    assert not read_uses(tmp_path / "answers")
    assert read_question_words(tmp_path / "answers") == ("question: ", " context: ")


@pytest.mark.slow
def test_the_verbs_export_and_explain_one_task(t5, tmp_path, capsys):
    name, text = str(t5), TEXTS[0]
    exported = str(tmp_path / "de")
    assert main(["export", name, "-o", exported, "--lang", "de"]) == 0
    prefix = json.loads((tmp_path / "de" / "config.json").read_text())["prefix"]
    assert prefix == TASKS["translation_en_to_de"]["prefix"]
    options = ["--method", "attention", "--json"]
    capsys.readouterr()
    assert main(["explain", name, text, "--verb", "summarize", *options]) == 0
    explained = json.loads(capsys.readouterr().out)
    tokens = "".join(token["text"] for token in explained["input"])
    assert tokens.replace(" ", "").startswith("aredhouse:")
    assert main(["explain", name, text, "--context", name, "--verb", "summarize"]) == 2
    assert "--context is of a question.  Leave --verb summarize out." in capsys.readouterr().err


def t5_folder_without(folder, tmp_path, *names):
    """Copy a folder without some of its tasks."""
    copied = shutil.copytree(folder, tmp_path / "copied")
    fields = json.loads((copied / "config.json").read_text())
    for name in names:
        del fields["task_specific_params"][name]
    (copied / "config.json").write_text(json.dumps(fields))
    return copied
