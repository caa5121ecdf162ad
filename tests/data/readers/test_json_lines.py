"""Objects a line: the keys that are read, and what is wrong with a line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.readers.pair_files import fault, find_problems, read, read_in_new_folder, write

from regard.data.readers.labeled import read_labeled_texts
from regard.data.readers.source import open_source
from regard.data.readers.table_inspection import inspect_pairs
from regard.errors import DataError

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
        (
            '{"source": "a", "target": ["b", "c"]}',
            '"target" has 2 values, "b, c", one expected.  Keep one of them.',
        ),
        ('"a"', 'no object such as {"source": "...", "target": "..."}.'),
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


def test_not_a_number_is_an_empty_text():
    text = '{"source": "a NaN", "target": NaN}\n{"source": "b", "target": "c"}\n'
    assert read(text, "pairs.jsonl") == [("a NaN", ""), ("b", "c")]


def test_lists_and_objects_are_not_proposed_as_columns():
    row = {"id": 1, "notes": {"a": "one text"}, "tags": ["x y", "z w"]}
    message = fault(json.dumps([row] * 9), "x.json")
    assert "--columns" not in message
    assert "Texts are deeper: .notes.a, .tags[0], .tags[1]." in message


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


WRAPPED = f'{{"rows": [{PAIR},{PAIR}]}}'


@pytest.mark.parametrize("name", ["pairs.json", "pairs.jsonl", "pairs"])
@pytest.mark.parametrize(
    "text",
    [
        WRAPPED,
        f'{{\n  "my \\"rows\\"": [\n    {PAIR},\n    {PAIR}\n  ]\n}}\n',
        f'\n{{\n"data"\n:\n[{PAIR}\r\n,\r\n{PAIR}\r\n]}}',
        WRAPPED.replace("[", '[{"translation": ', 1)
        .replace("},{", '}},{"translation": {')
        .replace("]}", "}]}"),
    ],
)
def test_the_list_under_the_only_key_of_an_object_is_read_as_its_objects(text, name):
    assert read(text, name) == [("a", "[b}, {")] * 2


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (WRAPPED, ' (the list under "rows")'),
        (f'{{\n"an \\"a\\"":\n[{PAIR}]}}', ' (the list under "an "a"")'),
        (f"[{PAIR}]", ""),
        (PAIR, ""),
    ],
)
def test_the_key_of_a_list_is_part_of_what_a_file_is_read_as(text, note):
    read_as = inspect_pairs(open_source(write("x.json", text)), "pairs")
    assert read_as.text == f"pairs, columns source, target{note}"


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (',\n{"source": ""}]}', 'x.json:3: no key "target".  Keys seen: source.'),
        (",\n7]}", 'x.json:3: no object such as {"source": "...", "target": "..."}.  "7"'),
        ("\n7]}", "x.json:2: not JSON: JSON is malformed: trailing characters"),
        (
            ",\n",
            'x.json: the list under "rows" has no "]}" at its end.  Cut short?  Copy it again.',
        ),
        ("]", 'x.json: the list under "rows" has no "]}" at its end.  Cut short?  Copy it again.'),
    ],
)
def test_what_is_no_object_of_a_list_under_a_key_has_its_line(rest, message):
    assert fault(f'{{"rows": [\n{PAIR}{rest}', "x.json").startswith(message)


def test_lines_of_which_each_has_a_list_first_stay_lines():
    row = f'{{"tags": [{{"a": 1}}], {PAIR[1:]}'
    empty = f'{{"tags": [], {PAIR[1:]}'
    assert read(f"{row}\n{row}\n", "x.jsonl") == [("a", "[b}, {")] * 2
    assert read(f"{empty}\n{row}\n", "x.jsonl") == [("a", "[b}, {")] * 2
    assert read(row, "x.json") == [("a", "[b}, {")]
    assert fault(f"{row}\n{row[:-1]}", "x.jsonl").startswith("x.jsonl:2: not JSON: ")


@pytest.mark.parametrize("text", ["[]", " [\n ]\n\n", '{"rows": []}', '{\n"rows":\n[\n]\n}\n'])
def test_an_empty_list_is_said_to_be_empty(text):
    message = "x.json: the file is empty: a list without objects.  Expected one pair a line: "
    assert fault(text, "x.json").startswith(message)
    with pytest.raises(
        DataError, match=r"x.json: the file is empty: a list without objects\.  Exp"
    ):
        read_labeled_texts("x.json")


@pytest.mark.parametrize(
    ("text", "start", "advice"),
    [
        (f'{{\n"n": 1,\n"rows": [{PAIR}]}}', "not JSON", "jq -c '.rows[]' x.json > fixed.jsonl"),
        (
            f'{{"n": 1, "rows": [{PAIR}]}}',
            'no key "source"',
            "jq -c '.rows[]' x.json > fixed.jsonl",
        ),
        ('{\n"source": "a",\n"target": "b"\n}', "not JSON", "jq -c . x.json > fixed.jsonl"),
        ('{\n"source": "a"\n"target": "b"\n}', "not JSON", "Line 3, column 1: Expecting"),
        ('["a", "b"]', "a list, one object a line expected.", "jq -r '.[]' x.json > fixed.txt"),
        ('["a"]\n["b"]', "a list, one object a line expected.", "jq -r @tsv x.json > fixed.tsv"),
        ('{"source": ["a"], "target": ["b"]}', '"source" is not a text.', "map_values(.[$i])"),
        (f'[{{"rows": [{PAIR}]}}]', 'no key "source"', "jq -c '.[]|.rows[]' x.json > fixed"),
        ('[{"source": "a", "target": ["b"]}]', '"target" is not', "jq -c '.[]|.target|=.[0]'"),
        ('{"source": "a", "target": "b"},', "not JSON", "sed 's/,$//' x.json > fixed.jsonl"),
        ("{'source': 'a', 'target': 'b'}", "not JSON", "Written by Python?"),
    ],
)
def test_json_of_another_layout_is_told_what_mends_it(text, start, advice):
    message = fault(text, "x.json")
    assert message.startswith(f"x.json:1: {start}")
    assert advice in message
    assert len(find_problems("x.json")) == 1


def test_one_object_over_several_lines_is_the_only_problem():
    assert len(find_problems(write("x.json", '[{"a": 1},\n{"a": 2},\n{"a": 3}]\n'))) == 1


def test_json_nested_too_deeply_is_refused():
    assert fault("{" + '"a":[' * 100_000, "pairs.jsonl").startswith("pairs.jsonl:1: not JSON: ")


def test_half_a_surrogate_pair_is_named():
    assert fault('{"source": "\\ud83d", "target": "b"}', "p.jsonl").startswith(
        r"p.jsonl:1: not JSON: half of a character (\ud83d)."
    )
    assert read('{"source": "\\ud83d\\ude00", "target": "b"}', "p.jsonl") == [("😀", "b")]
