"""Objects a line: the keys that are read, and what is wrong with a line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.readers.pair_files import fault, find_problems, read, read_in_new_folder, write

ANY_TEXT = st.text(max_size=20)
LINE_ENDS = st.sampled_from(["\n", "\r\n"])

REVIEWS = [(f"the meal number {i} was fine", ("good", "bad")[i % 2]) for i in range(20)]
pytestmark = pytest.mark.usefixtures("inside_an_empty_folder")


def rows_of(text):
    return st.lists(st.tuples(text, text), min_size=1, max_size=5)


@pytest.mark.slow
@given(rows_of(ANY_TEXT), st.booleans(), LINE_ENDS)
def test_jsonl_of_any_text_is_read_unchanged(rows, is_ascii, end):
    objects = ({"source": source, "target": target} for source, target in rows)
    text = "".join(json.dumps(row, ensure_ascii=is_ascii) + end for row in objects)
    assert read_in_new_folder(text.encode(), "pairs.jsonl") == rows


@pytest.mark.parametrize(
    "row",
    [
        '{"source": "a", "target": "b"}',
        '{"src": "a", "tgt": "b", "id": 7}',
        '{"translation": {"en": "a", "de": "b"}}',
        '{"id": "x", "en": "a", "de": "b"}',
    ],
)
def test_the_usual_keys_of_jsonl_are_found(row):
    assert read(row, "pairs.json") == [("a", "b")]


def test_the_first_object_decides_on_the_order_of_languages():
    rows = '{"translation": {"en": "a", "de": "b"}}\n{"translation": {"de": "d", "en": "c"}}'
    assert read(rows, "pairs.jsonl") == [("a", "b"), ("c", "d")]


def test_a_malformed_json_line_is_refused_with_the_cause():
    assert fault('{"src": "a", "tgt": "b"}\n{"src": "a",}\n', "pairs.jsonl") == (
        "pairs.jsonl:2: not JSON: JSON is malformed: trailing comma in object (byte 12).  "
        '"{"src": "a",}"'
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{}", 'no key "source".  Keys seen: none.'),
        ('{"source": "a", "target": 1}', '"target" is not a text.'),
        ('{"source": "a", "target": ["b"]}', '"target" is not a text.'),
        ('"a"', 'no object such as {"source": "...", "target": "..."}.'),
        (
            '["a"]',
            "a list, one object a line expected.  Convert: jq -c '.[]' FILE > fixed.jsonl",
        ),
    ],
)
def test_a_json_line_without_two_texts_is_refused_with_its_keys(row, message):
    assert fault(row, "pairs.jsonl") == f'pairs.jsonl:1: {message}  "{row}"'


PAIR = '{"source": "a", "target": "[b}, {"}'


@pytest.mark.parametrize("name", ["pairs.json", "pairs.jsonl", "pairs"])
@pytest.mark.parametrize(
    "text",
    [
        f"[{PAIR},{PAIR}]",
        f"[\n  {PAIR},\n  {PAIR}\n]\n",
        f"\n [ {PAIR}\n,{PAIR} ] ",
        "[" + PAIR.replace(",", ",\n", 1) + f",\r\n{PAIR}\r\n]",
    ],
)
def test_a_list_of_objects_is_read_as_its_objects(text, name):
    assert read(text, name) == [("a", "[b}, {")] * 2


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (',\n{"source": ""}]', 'pairs.json:3: no key "target".  Keys seen: source.'),
        (",\n7]", 'pairs.json:3: no object such as {"source": "...", "target": "..."}.  "7"'),
        ("\n7]", "pairs.json:2: not JSON: JSON is malformed: trailing characters"),
        (',\n{"source": "a]', "pairs.json:3: not JSON: Input data was truncated."),
        (',\n{"source": "a', 'pairs.json: the list has no "]" at its end.  Cut short?'),
        (",\n]", "pairs.json:3: not JSON: JSON is malformed: invalid character"),
        (",\n", 'pairs.json: the list has no "]" at its end.  Cut short?  Copy it again.'),
        ("", 'pairs.json: the list has no "]" at its end.  Cut short?  Copy it again.'),
    ],
)
def test_what_is_no_object_of_a_list_has_its_line(rest, message):
    assert fault(f"[\n{PAIR}{rest}", "pairs.json").startswith(message)


def test_null_is_an_empty_text():
    text = '{"source": "a", "target": null}\n' + '{"source": "b", "target": "c"}\n'
    assert read(text, "pairs.jsonl") == [("a", ""), ("b", "c")]


def test_a_first_object_without_the_keys_is_the_only_problem():
    rows = "".join(json.dumps({"utt": text, "cls": label}) + "\n" for text, label in REVIEWS)
    assert fault(rows, "x.jsonl") == (
        'x.jsonl:1: no key "source".  Keys seen: utt, cls.  '
        '"{"utt": "the meal number 0 was fine", "cls": "good"}"  Texts with labels? '
        "--columns utt,cls --set task=classification.  Pairs? --columns utt,cls"
    )
    assert fault('{"text": "a", "label": "b"}\n{"text": 1}\n', "x.jsonl").endswith(
        "Texts with labels are for --set task=classification"
    )


def test_one_object_over_several_lines_is_the_only_problem():
    assert fault('{"data": [\n{"source": "a", "target": "b"},\n{"x": 1}]}\n', "x.json") == (
        'x.json:1: not JSON: Input data was truncated.  "{"data": ["  '
        "An object over several lines?  One a line: jq -c . FILE > fixed.jsonl"
    )
    assert len(find_problems(write("x.json", '[{"a": 1},\n{"a": 2},\n{"a": 3}]\n'))) == 1


def test_json_nested_too_deeply_is_refused():
    assert fault("{" + '"a":[' * 100_000, "pairs.jsonl").startswith("pairs.jsonl:1: not JSON: ")


def test_half_a_surrogate_pair_is_named():
    assert fault('{"source": "\\ud83d", "target": "b"}', "p.jsonl").startswith(
        r"p.jsonl:1: not JSON: half of a character (\ud83d)."
    )
    assert read('{"source": "\\ud83d\\ude00", "target": "b"}', "p.jsonl") == [("😀", "b")]
