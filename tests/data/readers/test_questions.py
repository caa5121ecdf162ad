"""Questions on texts: every form of file, answers that are not where they should be, damage."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from regard.data.question_rows import NOT_FOUND, drop_unfound
from regard.data.readers.problems import UnreadableRowsError, list_problems
from regard.data.readers.questions import inspect_questions, read_asked, read_questions
from regard.data.readers.source import open_source
from regard.data.splits import split
from regard.errors import DataError
from regard.tasks import guess_task

CONTEXT = "Ada met Bob in Rome. Later Bob met Cy in Oslo."


def squad(*questions: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    """Return a document of SQuAD with one article of one paragraph."""
    article = {"title": "T", "paragraphs": [{"context": context, "qas": list(questions)}]}
    return {"version": "v2.0", "data": [article]}


def asked(question: str, text: str, start: int) -> dict[str, Any]:
    """Return a question of SQuAD with one answer."""
    return {"id": "q", "question": question, "answers": [{"text": text, "answer_start": start}]}


def write(path: Path, content: Any) -> Path:
    """Write text, or JSON, to a file."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def lines(*rows: dict[str, Any]) -> str:
    """Return rows of JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def row(answers: Any, **fields: Any) -> dict[str, Any]:
    """Return a row with some answers."""
    return {"context": CONTEXT, "question": "Where?", "answers": answers, **fields}


def test_both_versions_of_squad_are_read_with_the_path_of_each_question(tmp_path: Path) -> None:
    impossible = {"id": "n", "question": "Who is Di?", "answers": [], "is_impossible": True}
    path = write(tmp_path / "s.json", squad(asked("Where?", "Rome", 15), impossible))
    questions, dropped, notes = read_questions(path)
    assert questions.answers == [("Rome",), ()]
    assert questions.starts == [(15,), ()]
    assert questions.json_paths[1] == "data[0].paragraphs[0].qas[1]"
    assert questions.locate(1) == f"{path}: data[0].paragraphs[0].qas[1]"
    assert questions.ids == ["q", "n"]
    assert questions.num_unanswerable == 1
    assert (dropped, notes) == ([], [])
    assert inspect_questions(open_source(path)).text == "questions on texts (SQuAD's JSON)"


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_file_of_squad_is_for_question_answering(tmp_path: Path, indent: int | None) -> None:
    text = json.dumps(squad(asked("Where?", "Rome", 15)), indent=indent)
    assert guess_task(write(tmp_path / "s.json", text)) == "question-answering"
    assert len(read_questions(tmp_path / "s.json").questions) == 1


@pytest.mark.parametrize(
    ("answers", "fields"),
    [
        ({"text": ["Rome"], "answer_start": [15]}, {}),
        ({"text": ["Rome"], "answer_start": 15}, {}),
        (["Rome"], {}),
        (["Rome"], {"answer_start": [15]}),
        ("Rome", {"answer_start": 15}),
        ("Rome", {}),
        ([{"text": "Rome", "answer_start": 15}], {}),
        ({"text": "Rome"}, {}),
        ([" Rome "], {"answer_start": [14]}),
    ],
)
def test_answers_of_jsonl_may_have_any_usual_form(
    tmp_path: Path, answers: Any, fields: dict[str, Any]
) -> None:
    path = write(tmp_path / "q.jsonl", lines(row(answers, **fields)))
    questions = read_questions(path).questions
    assert questions.answers == [("Rome",)]
    assert questions.starts == [(15,)]
    assert guess_task(path) == "question-answering"


@pytest.mark.parametrize("start", [8, 8.0, "8", " 8.0 ", "8e0"])
def test_a_start_may_be_a_number_in_any_form(tmp_path: Path, start: object) -> None:
    path = write(tmp_path / "q.jsonl", lines(row(["Bob"], answer_start=[start])))
    assert read_questions(path).questions.starts == [(8,)]
    table = f'context,question,answer,answer_start\n"{CONTEXT}",Who?,Bob,{start}\n'
    assert read_questions(write(tmp_path / "q.csv", table)).questions.starts == [(8,)]


@pytest.mark.parametrize("start", [None, -1, "-1", "nan", "", "None"])
def test_a_start_that_is_not_known_is_looked_for(tmp_path: Path, start: object) -> None:
    read = read_questions(write(tmp_path / "q.jsonl", lines(row(["Rome"], answer_start=[start]))))
    assert read.questions.starts == [(15,)]
    assert read.notes == []


@pytest.mark.parametrize("start", ["x", 1.5, True, "9" * 5000, "1e999", "1.5"])
def test_a_start_that_is_not_a_whole_number_is_refused_in_few_words(
    tmp_path: Path, start: object
) -> None:
    path = write(tmp_path / "q.jsonl", lines(row(["Rome"], answer_start=[start])))
    with pytest.raises(DataError, match=r"q.jsonl:1: answer_start=.*is not a whole") as caught:
        read_questions(path)
    assert len(str(caught.value)) < len(str(path)) + 200


@pytest.mark.parametrize("value", [True, 1, "true", "True", "yes", "1"])
def test_what_says_that_there_is_no_answer_may_have_any_form(tmp_path: Path, value: object) -> None:
    path = write(tmp_path / "q.jsonl", lines(row(["Rome"], is_impossible=value)))
    with pytest.raises(DataError, match="is_impossible is true, and there are answers"):
        read_questions(path)
    table = f'context,question,answer,is_impossible\n"{CONTEXT}",Who?,Bob,{value}\n'
    with pytest.raises(DataError, match=r"q.csv:2: is_impossible is true"):
        read_questions(write(tmp_path / "q.csv", table))


@pytest.mark.parametrize("value", [False, 0, "false", "0", "no", None, ""])
def test_a_question_that_is_not_impossible_keeps_its_answers(tmp_path: Path, value: object) -> None:
    path = write(tmp_path / "q.jsonl", lines(row(["Rome"], is_impossible=value)))
    assert read_questions(path).questions.answers == [("Rome",)]


def test_a_sign_of_no_answer_that_is_neither_true_nor_false_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", lines(row(["Rome"], is_impossible="maybe")))
    with pytest.raises(DataError, match="is_impossible='maybe' is neither true nor false"):
        read_questions(path)


@pytest.mark.parametrize(
    "cell",
    [
        "['Rome']",
        '["Rome"]',
        "{'text': ['Rome'], 'answer_start': [15]}",
        "[{'text': 'Rome'}]",
        "{'text': array(['Rome'], dtype=object), 'answer_start': array([15], dtype=int32)}",
        "{'text': array(['Rome'], dtype='<U4'), 'answer_start': array([15])}",
    ],
)
def test_a_cell_may_hold_answers_as_json_python_or_numpy_print_them(
    tmp_path: Path, cell: str
) -> None:
    table = f"context\tquestion\tanswers\n{CONTEXT}\tWhere?\t{cell}\n"
    read = read_questions(write(tmp_path / "q.tsv", table)).questions
    assert (read.answers, read.starts) == ([("Rome",)], [(15,)])


@pytest.mark.parametrize(
    ("answers", "start", "expected"),
    [
        ("['Rome' 'Oslo']", "[15 41]", [(15, 41)]),
        ("['Rome'\n 'Oslo']", "", [(15, 41)]),
        ("['Bob' \"Cy\"]", "[27 35]", [(27, 35)]),
        ("Bob", "[27]", [(27,)]),
        ("[]", "[]", [()]),
    ],
)
def test_arrays_of_answers_have_a_text_for_each(
    tmp_path: Path, answers: str, start: str, expected: list[tuple[int, ...]]
) -> None:
    with (tmp_path / "q.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["context", "question", "answers", "answer_start"])
        writer.writerow([CONTEXT, "Where?", answers, start])
    assert read_questions(tmp_path / "q.csv").questions.starts == expected


@pytest.mark.parametrize(
    "cell", ["[5]", "{x}", "[a, b]", "[]]", "[open(1)]", "array", "[f(array([1]))]", "{'", "[1 2"]
)
def test_a_cell_in_brackets_that_the_context_has_is_a_text(tmp_path: Path, cell: str) -> None:
    table = f"context\tquestion\tanswers\nsee {cell} there\tWhere?\t{cell}\n"
    assert read_questions(write(tmp_path / "q.tsv", table)).questions.starts == [(4,)]


@pytest.mark.parametrize("answers", [[], None, "", {"text": [], "answer_start": []}, [" "]])
def test_a_row_without_an_answer_is_a_question_without_one(tmp_path: Path, answers: Any) -> None:
    path = write(tmp_path / "q.jsonl", lines(row(answers)))
    assert read_questions(path).questions.answers == [()]


def test_a_single_answer_may_be_named_answer(tmp_path: Path) -> None:
    fields = {"passage": CONTEXT, "question": "Where?", "answer": "Rome", "answer_start": 15}
    path = write(tmp_path / "q.jsonl", lines(fields))
    assert read_questions(path).questions.starts == [(15,)]
    assert guess_task(path) == "question-answering"


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_tables_have_the_three_columns_and_maybe_a_start(
    tmp_path: Path, suffix: str, separator: str
) -> None:
    rows = [
        ("context", "question", "answer", "answer_start", "id"),
        (CONTEXT, "Who?", "Bob", "27", "a"),
        (CONTEXT, "Whose?", "", "", "b"),
    ]
    text = "".join(separator.join(cells) + "\n" for cells in rows)
    path = write(tmp_path / f"q.{suffix}", text)
    assert guess_task(path) == "question-answering"
    questions = read_questions(path).questions
    assert questions.starts == [(27,), ()]
    assert questions.ids == ["a", "b"]
    assert "answer_start" in inspect_questions(open_source(path)).columns


def test_the_error_for_questions_without_answers_says_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", lines({"context": CONTEXT, "question": "Where?"}))
    assert guess_task(path) == "question-answering"
    with pytest.raises(DataError, match=r'q.jsonl:1: no key "answers".  Keys seen: context, ques'):
        read_questions(path)


def test_questions_with_labels_in_place_of_answers_are_for_a_classifier(tmp_path: Path) -> None:
    fields = {"passage": CONTEXT, "question": "Is Ada in Rome?", "label": "yes"}
    assert guess_task(write(tmp_path / "b.jsonl", lines(fields))) == "classification"
    with_both = write(tmp_path / "c.jsonl", lines(fields | {"answers": ["Rome"]}))
    assert guess_task(with_both) == "question-answering"


def test_a_start_that_is_wrong_is_mended_to_the_nearest_place(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", lines(row(["Bob"], answer_start=[25]), row(["Bob"])))
    questions, _, notes = read_questions(path)
    assert questions.starts == [(27,), (8,)]
    assert notes == [
        "1 answer is not at its answer_start; the nearest occurrence of the text was taken."
    ]


@pytest.mark.parametrize(
    ("context", "answer", "start"),
    [
        ("The generation of a rat.", "rat", 20),
        ("In 2015 it had 5 colors.", "5", 15),
        ("Another town has no river.", "no", 17),
        ("1,500 of 3.5 are 500 and 5.", "500", 17),
        ("1,500 of 3.5 are 500 and 5.", "5", 25),
        ("Zürich is rich.", "rich", 10),
        ("Romeo, 在Rome的.", "Rome", 8),
        ("aaa", "aa", 0),  # within a word where there is no other
        ("我在北京。", "北", 2),
    ],
)
def test_an_answer_without_a_start_is_a_whole_word_where_there_is_one(
    tmp_path: Path, context: str, answer: str, start: int
) -> None:
    fields = {"context": context, "question": "Which?", "answers": [answer]}
    path = write(tmp_path / "q.jsonl", lines(fields))
    assert read_questions(path).questions.starts == [(start,)]


def test_a_start_that_is_wrong_is_mended_to_a_whole_word(tmp_path: Path) -> None:
    fields = {"context": "The generation of a rat.", "question": "Which?", "answers": ["rat"]}
    given = [fields | {"answer_start": [start]} for start in (8, 9, 19)]
    questions = read_questions(write(tmp_path / "q.jsonl", lines(*given))).questions
    assert questions.starts == [(8,), (20,), (20,)]  # the first is where it is said to be


def test_an_answer_outside_its_context_is_dropped_with_reason_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", lines(row(["Rome"]), row(["Paris", "Lima"])))
    questions, _, notes = read_questions(path)
    assert questions.starts[1] == (NOT_FOUND, NOT_FOUND)  # its texts still count in a test
    assert notes == []
    assert questions.num_unfound == 2
    learned, dropped = drop_unfound(questions)
    assert len(learned) == 1
    assert [(drop.line, drop.reason) for drop in dropped] == [
        (2, "the answer is not in the context")
    ]


def test_rows_without_a_text_or_a_question_are_dropped(tmp_path: Path) -> None:
    blank = {"context": " ", "question": "Where?", "answers": []}
    path = write(tmp_path / "q.jsonl", lines(row(["Rome"]), blank, row([], question="")))
    questions, dropped, _ = read_questions(path)
    assert len(questions) == 1
    assert [drop.reason for drop in dropped] == ["empty context", "empty question"]


@pytest.mark.parametrize("size", [40, 120, 200])
def test_a_nested_file_that_was_cut_says_line_and_column(tmp_path: Path, size: int) -> None:
    text = json.dumps(squad(asked("Where?", "Rome", 15)))
    path = write(tmp_path / "s.json", text[:size])
    with pytest.raises(DataError, match=r"s.json:1: not JSON at column \d+ .*cut short") as caught:
        read_questions(path)
    assert guess_task(path) == "question-answering"
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qas": 5}, r"data\[0\].paragraphs\[0\]: no list under the key \"qas\""),
        ({"context": None}, r"data\[0\].paragraphs\[0\]: no text under the key \"context\""),
        ({"qas": [{"id": "x"}]}, r"qas\[0\]: no text under the key \"question\""),
        ({"qas": [{"question": "x"}]}, r"qas\[0\]: no key \"answers\".  Keys seen: question"),
        (
            {"qas": [{"question": "x", "answers": [{"text": True}]}]},
            r"data\[0\].paragraphs\[0\].qas\[0\]: an answer in \"answers\" is not a text",
        ),
        (
            {"qas": [{"question": "x", "answers": [{"text": "a", "answer_start": "b"}]}]},
            r"qas\[0\]: answer_start='b' is not a whole number",
        ),
    ],
)
def test_damage_in_a_nested_file_has_its_path(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    document = squad(asked("Where?", "Rome", 15))
    document["data"][0]["paragraphs"][0] |= change
    with pytest.raises(DataError, match=message):
        read_questions(write(tmp_path / "s.json", document))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines(row(["Rome"])) + '{"context": "a", "ques', r"q.jsonl:2: not JSON"),
        (lines({"context": "a", "question": "b"}), r'q.jsonl:1: no key "answers".  Keys seen: con'),
        (lines(row(["Rome"]), row({"texts": []})), r'q.jsonl:2: no list of texts under "text"'),
        (lines(row(["Rome"], answer_start=[1, 2])), r"q.jsonl:1: 1 answers, but 2 answer_start"),
        (lines(row(["Rome"], is_impossible=True)), r"q.jsonl:1: is_impossible is true, and"),
        (lines(row(["Rome"]), row([], context=3)), r'q.jsonl:2: "context" is not a text'),
        (lines(row(True)), r'q.jsonl:1: "answers" is not a text, a list of texts'),
        ("[]\n", "the file has no questions"),
        ('{\n"version": 1,\n"rows": [{}]}', r"q.jsonl:1: not JSON.*jq -c '.rows\[\]' .*q.jsonl"),
        ("", "the file has no questions"),
        ("\xff", "q.jsonl"),
    ],
)
def test_damage_in_jsonl_has_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_questions(write(tmp_path / "q.jsonl", content))


def test_a_list_of_objects_is_read_as_questions(tmp_path: Path) -> None:
    rows = [row(["Rome"]), row(["Rome"], id="second")]
    for indent in (None, 2):
        path = write(tmp_path / "questions", json.dumps(rows, indent=indent))
        result = read_questions(path)
        assert len(result.questions) == 2
        assert result.questions.ids[1] == "second"
        assert result.questions.lines[0] == (1 if indent is None else 2)
        assert len(list(read_asked(path))) == 2


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (31, "31"),
        (31.0, "31"),
        (2.5, "2.5"),
        ([31], "31"),
        ({"text": 31, "answer_start": 9}, "31"),
        ([{"text": 31, "answer_start": 9}], "31"),
    ],
    ids=str,
)
def test_an_answer_that_is_a_number_is_its_text(tmp_path: Path, answers: Any, text: str) -> None:
    context = f"A box of {text} coins."
    path = write(tmp_path / "q.jsonl", lines(row(answers, context=context)))
    questions = read_questions(path).questions
    assert (questions.answers, questions.starts) == ([(text,)], [(9,)])


def test_half_a_character_in_a_nested_file_is_refused_with_its_line(tmp_path: Path) -> None:
    text = json.dumps(squad(asked("Whe\ud83d?", "Rome", 15)), indent=1)
    path = write(tmp_path / "s.json", text)
    line = text[: text.index("Whe")].count("\n") + 1
    with pytest.raises(DataError, match=rf"s.json:{line}: not JSON: half of a character \(.ud83d"):
        read_questions(path)
    write(path, json.dumps(squad(asked("Whe😀?", "Rome", 15))))
    assert read_questions(path).questions.questions == ["Whe😀?"]


def test_damage_in_a_nested_file_counts_as_rows_with_their_paths(tmp_path: Path) -> None:
    document = squad(asked("Where?", "Rome", 15))
    document["data"][0]["paragraphs"] = [{"qas": []}] * 5
    with pytest.raises(UnreadableRowsError) as caught:
        read_questions(write(tmp_path / "s.json", document))
    (line,) = list_problems(caught.value.problems)
    assert line.endswith(
        's.json: data[0].paragraphs[0]: no text under the key "context".  5 rows like this: '
        "data[0].paragraphs[0], data[0].paragraphs[1], data[0].paragraphs[2] and 2 more."
    )


def test_a_nested_file_in_another_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    text = json.dumps(squad(asked("Où?", "Rome", 15)), ensure_ascii=False)
    path.write_bytes(text.encode("utf-16"))
    assert read_questions(path, encoding="utf-16").questions.questions == ["Où?"]
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(DataError, match=r"s.json:1: not UTF-8 at byte"):
        read_questions(path)


def test_parts_of_the_data_share_no_context(tmp_path: Path) -> None:
    rows = [
        row(["Rome"], context=f"{number // 3} {CONTEXT}", question=f"Where {number}?")
        for number in range(60)
    ]
    questions = read_questions(write(tmp_path / "q.jsonl", lines(*rows))).questions
    parts = split(questions, seed=0, valid_rows=6, test_rows=6)
    contexts = [set(part.contexts) for part in (parts.train, parts.valid, parts.test)]
    assert not (contexts[0] & contexts[1] or contexts[0] & contexts[2] or contexts[1] & contexts[2])
    assert sum(len(part) for part in (parts.train, parts.valid, parts.test)) == 60
