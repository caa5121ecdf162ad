"""Headers of tables: where a first row is one, and which columns it picks."""

from __future__ import annotations

import pytest
from tests.data.readers.pair_files import fault, read

from regard.data.readers.headers import (
    advise_columns,
    advise_flags,
    advise_labels,
    find_label,
    looks_like_header,
)

REVIEWS = [(f"the meal number {i} was fine", ("good", "bad")[i % 2]) for i in range(20)]
ENGLISH_FRENCH = "id,English,French\n0,one cat,un chat\n1,two dogs,deux chiens\n"
pytestmark = pytest.mark.usefixtures("inside_an_empty_folder")


@pytest.mark.parametrize("header", ["source,target", "Src,TGT", "en,de", "id,en,de", "en-GB,de_DE"])
def test_a_csv_header_is_recognised(header):
    cells = "1,a,b" if header.startswith("id") else "a,b"
    assert read(f"{header}\n{cells}\n", "pairs.csv") == [("a", "b")]


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv"])
def test_a_comment_above_a_header_is_refused_with_the_command_that_leaves_it_out(name):
    tab = "," if name.endswith("csv") else "\t"
    text = f"# written by a tool, 2024\n#\n\nsource{tab}target\na{tab}b\n"
    assert fault(text, name) == (
        f'{name}:1: a comment above the names of the columns.  "# written by a tool, 2024"  '
        f"Leave it out: tail -n +4 {name} > fixed{name[-4:]}"
    )


def test_a_title_above_a_header_is_refused_with_the_command_that_leaves_it_out():
    assert fault("Report; 2024\n\nsource,target\na,b\n", "pairs.csv") == (
        'pairs.csv:1: a text above the names of the columns.  "Report; 2024"  '
        "Leave it out: tail -n +3 pairs.csv > fixed.csv"
    )


@pytest.mark.parametrize("header", ["#source,target", "# source,target"])
def test_a_header_may_begin_with_a_hash(header):
    assert read(f"{header}\na,b\n", "pairs.csv") == [("a", "b")]


def test_a_text_that_begins_with_a_hash_is_no_comment():
    assert read("#one\tb\n#two\tc\nthree\td\n", "pairs.tsv") == [
        ("#one", "b"),
        ("#two", "c"),
        ("three", "d"),
    ]


def test_the_columns_of_a_csv_header_may_come_in_any_order():
    assert read("target,note,source\nb,x,a\n", "pairs.csv") == [("a", "b")]


def test_csv_without_a_header_keeps_its_first_row():
    assert read("Good morning,Guten Morgen\na,b\n", "pairs.csv")[0][0] == "Good morning"


def test_a_tsv_header_is_recognised_by_plain_words_but_not_by_codes():
    assert read("source\ttarget\na\tb\n") == [("a", "b")]
    assert read("so\tda\na\tb\n") == [("so", "da"), ("a", "b")]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_a_header_above_labels_is_refused_with_the_command_that_picks(name):
    separator = "\t" if name == "x.tsv" else ","
    rows = [("utt", "cls"), *REVIEWS]
    assert fault("".join(f"{a}{separator}{b}\n" for a, b in rows), name) == (
        f"{name}:1: columns seen: utt, cls.  Texts with labels? --columns utt,cls "
        "--set task=classification.  Pairs? --columns utt,cls"
    )


def test_one_usual_name_makes_a_csv_header():
    assert fault("text,gloss\nred,rot\ngreen,grün\n", "x.csv") == (
        "x.csv:1: columns seen: text, gloss.  Pairs? --columns text,gloss  Running text? "
        "--set task=language-modeling"
    )


def test_a_word_list_may_begin_with_a_usual_name():
    assert read("text\tTextbuch\nred\trot\n")[0] == ("text", "Textbuch")


def test_pairs_whose_targets_repeat_have_no_header():
    rows = [("no", "nein"), *((f"this is sentence {i}", "nein") for i in range(9))]
    assert read("".join(f"{a}\t{b}\n" for a, b in rows))[0] == ("no", "nein")


def test_codes_that_no_word_looks_like_are_a_tsv_header():
    assert read("EN\tDE\na\tb\n") == [("a", "b")]
    assert read("en-US\tde-DE\na\tb\n") == [("a", "b")]


def test_the_header_decides_how_many_columns_are_expected():
    assert fault("id,en,de\n1,a\n", "pairs.csv") == (
        'pairs.csv:2: two columns, three expected.  "1,a"  Separated by spaces? Use a comma.'
    )


def test_columns_named_for_languages_are_taken_and_others_left():
    assert read(ENGLISH_FRENCH, "pairs.csv")[0] == ("one cat", "un chat")


def test_a_header_that_says_nothing_is_named_once_with_the_setting_that_picks_columns():
    rows = "".join(f"{n},a long text,un long texte\n" for n in range(200))
    assert fault(f"id,first,second\n{rows}", "pairs.csv") == (
        "pairs.csv:1: columns seen: id, first, second.  "
        "Name source and target: --columns first,second"
    )
    two = "first\tsecond\n" + "several words\tplusieurs mots\n" * 5
    assert fault(two).startswith("pairs.tsv:1: columns seen: first, second.  ")


def test_a_list_of_words_has_no_header():
    words = "dog\tHund\ncat\tKatze\nhouse\tHaus\n" * 3
    assert read(words)[0] == ("dog", "Hund")
    assert read("Paris\tParis\n" + "two words\tdeux mots\n" * 6)[0] == ("Paris", "Paris")


def test_labels_are_no_translations():
    assert "columns seen: Text, Label." in fault("Text,Label\na b,c\n", "reviews.csv")


NUMBERS = [(f"{i / 2:.2f}", f"{i * i}") for i in range(30)]
SERIES = (
    "A series? Name its times and values: --columns x,y --set task=forecasting.  Rows with labels? "
    "--columns LABEL --set task=series-classification.  Pairs? Call the columns source and target."
)


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
@pytest.mark.parametrize("columns", [None, ("x", "y")])
def test_columns_of_numbers_are_not_read_as_sentences(name, columns):
    separator = "\t" if name == "x.tsv" else ","
    text = "".join(f"{a}{separator}{b}\n" for a, b in [("x", "y"), *NUMBERS])
    expected = f"{name}:1: only numbers, no texts.  Columns seen: x, y.  {SERIES}"
    assert fault(text, name, columns=columns) == expected


@pytest.mark.parametrize("num_rows", [1, 2, 4, 30])
def test_numbers_without_names_of_columns_are_not_read_as_sentences(num_rows):
    assert fault("".join(f"{a},{b}\n" for a, b in NUMBERS[:num_rows]), "x.csv") == (
        "x.csv:1: only numbers, no texts.  Name the columns in a first line: time,value for a "
        "series, label next to numbers for rows to classify, source,target for pairs."
    )


def test_one_column_of_numbers_is_no_pair_without_a_separator():
    assert fault("x\n" + "".join(f"{b}\n" for _, b in NUMBERS), "x.csv") == (
        "x.csv:1: only numbers, no texts.  Columns seen: x.  A series? Add a column of times, "
        "dates or 1, 2, 3: time,x."
    )


def test_two_numbers_below_unknown_names_are_not_read_as_sentences():
    assert fault("x,y\n1,2\n", "x.csv").endswith(SERIES)


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (
            [(f"the cat number {i} sat on the mat", "ab"[i % 2]) for i in range(6)],
            "Texts with labels? --columns text,kind --set task=classification.  Running text? "
            "--set task=language-modeling",
        ),
        (
            [(f"the cat number {i} sat on the mat", f"row {i}") for i in range(6)],
            "Pairs? --columns text,kind  Running text? --set task=language-modeling",
        ),
        (
            [(f"the cat number {i} sat on the mat", f"{i / 7:.3f}") for i in range(6)],
            "Running text? --set task=language-modeling",
        ),
    ],
    ids=["few values", "many values", "numbers"],
)
def test_what_is_next_to_a_text_may_describe_it(rows, advice):
    table = "text,kind\n" + "".join(f"{text},{kind}\n" for text, kind in rows)
    assert fault(table, "t.csv") == f"t.csv:1: columns seen: text, kind.  {advice}"
    objects = "".join(f'{{"text": "{text}", "kind": "{kind}"}}\n' for text, kind in rows)
    message = fault(objects, "t.jsonl")
    assert message.startswith("t.jsonl:1: keys seen: text, kind.  ")
    assert message.endswith(advice)


def test_a_series_in_a_list_is_told_how_it_is_written():
    assert fault('{"start": "2024-01-01", "target": [1, 2.5, 3]}\n', "x.jsonl").endswith(
        'A series? Write one object for each of its times: {"time": "2024-01-31", "value": 1.5}.'
    )


def test_objects_of_numbers_are_not_read_as_sentences():
    text = "".join(f'{{"x": {a}, "y": {b}}}\n' for a, b in NUMBERS)
    assert fault(text, "x.jsonl").endswith(SERIES)


def test_pairs_that_begin_with_numbers_are_read():
    rows = [*NUMBERS, ("one", "eins")]
    assert read("".join(f"{a}\t{b}\n" for a, b in rows)) == rows


def test_numbers_below_source_and_target_are_pairs():
    text = "source,target\n" + "".join(f"{a},{b}\n" for a, b in NUMBERS)
    assert read(text, "x.csv") == NUMBERS


def test_a_column_without_a_value_is_no_column_of_labels():
    below = [[f"a text of words {i}", "", f"another one {i}"] for i in range(9)]
    assert find_label(["instruction", "input", "output"], below) is None


def test_a_header_above_an_index_without_a_name_is_one():
    rows = [[str(i), f"a text of some words {i}", "xy"[i % 2]] for i in range(6)]
    assert looks_like_header(["", "a", "b"], rows, is_csv=True)
    assert "`data.columns=a,b` `task=classification`" in advise_columns(["", "a", "b"], rows)


FLAGS = [(f"the meal number {i} was fine", str(i % 2), str(i % 3 // 2), "0") for i in range(20)]


def test_labels_with_a_column_each_are_refused_with_the_command_that_takes_them():
    rows = [("comment", "toxic", "rude", "threat"), *FLAGS]
    assert fault("".join(f"{','.join(row)}\n" for row in rows), "x.csv") == (
        "x.csv:1: columns seen: comment, toxic, rude, threat.  Labels in columns of their own, 0 "
        "and 1 (toxic, rude, threat)?  For a classifier that gives a text any number of them: "
        "--columns comment,toxic,rude,threat --set task=classification"
    )


def test_labels_with_a_column_each_may_be_written_in_several_ways():
    rows = [(text, str(bool(int(a))), f"{b}.0") for text, a, b, _ in FLAGS]
    assert "any number of them: `data.columns=x,a,b`" in advise_flags(["x", "a", "b"], rows)


def test_a_single_column_of_0_and_1_is_a_label():
    rows = [(text, flag, "0") for text, flag, *_ in FLAGS]
    assert advise_flags(["comment", "toxic", "seen"], rows) == ""
    assert find_label(["comment", "toxic", "seen"], rows) == "toxic"


def test_the_text_next_to_labels_is_the_longest_column():
    rows = [
        ("no", "Mon Apr 06 2009", f"this is a rather long text {i}", "ab"[i % 2]) for i in range(20)
    ]
    assert "`data.columns=3,4`" in advise_labels(rows[0], rows[1:])


def test_a_column_of_attributions_is_not_proposed_as_a_text():
    rows = [(f"text {i}", f"Text {i}", f"CC-BY 2.0 Attribution: a long one, {i}") for i in range(9)]
    assert advise_columns(["1", "2", "3"], rows) == "Name source and target: `data.columns=1,2`"


def test_one_name_for_both_columns_is_refused():
    assert fault("text,text\na b,c\n", "x.csv") == (
        'x.csv:1: two columns have the name "text".  Rename one of them.'
    )


def test_numbers_of_columns_are_no_labels_among_numbers():
    rows = [
        (str(i % 2 + 1), f"Title {i} of it", f"this is a rather long text {i}") for i in range(20)
    ]
    assert fault("".join(f"{','.join(row)}\n" for row in rows), "x.csv").endswith(
        "No header?  Texts with labels? --columns 3,1 --set task=classification.  "
        "Pairs? --columns 2,3"
    )
