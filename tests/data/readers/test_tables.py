"""Files of sentence pairs: every format round-trips, every fault names its line and a remedy."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.data.readers.pair_files import (
    fault,
    find_problems,
    give_input,
    read,
    read_in_new_folder,
    write,
)

from regard.cli.wording import error_text
from regard.data.readers.columns import SUMMARY_ROLES, is_column_name
from regard.data.readers.headers import hold_only_numbers
from regard.data.readers.problems import group_problems
from regard.data.readers.source import file_hash, open_source
from regard.data.readers.table_bytes import find_form
from regard.data.readers.table_inspection import inspect_pairs
from regard.data.readers.tables import parse_pairs, read_pairs
from regard.data.readers.text_lines import read_lines
from regard.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("inside_an_empty_folder")
LINE_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\0"), max_size=20)
CELL_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
LINE_ENDS = st.sampled_from(["\n", "\r\n"])


def rows_of(text):
    return st.lists(st.tuples(text, text), min_size=1, max_size=5)


# --- what is written is what is read


@pytest.mark.slow
@example([("", "["), ("a", "b")], "\n", False, True)
@given(rows_of(LINE_TEXT), LINE_ENDS, st.booleans(), st.booleans())
def test_tsv_of_any_text_is_read_unchanged(rows, end, has_mark, ends_the_last_line):
    assume(has_mark or not rows[0][0].startswith("\ufeff"))
    assume(not hold_only_numbers(rows[1:] or rows))
    text = end.join(f"{source}\t{target}" for source, target in rows)
    content = (text + end * ends_the_last_line).encode("utf-8-sig" if has_mark else "utf-8")
    assert read_in_new_folder(content, "pairs.tsv") == rows


@pytest.mark.slow
@given(rows_of(CELL_TEXT), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), st.booleans())
def test_csv_of_any_text_is_read_unchanged(rows, quoting, has_header):
    assume(has_header or not rows[0][0].startswith("\ufeff"))
    assume(has_header or not any(map(is_column_name, rows[0])))
    assume(has_header or not hold_only_numbers(rows[1:] or rows))
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=quoting, lineterminator="\r\n")
    writer.writerows([("source", "target")] * has_header + rows)
    assert read_in_new_folder(stream.getvalue().encode(), "pairs.csv") == rows


@pytest.mark.slow
@given(rows_of(LINE_TEXT))
def test_two_aligned_files_of_any_text_are_read_unchanged(rows):
    assume(not any(text.startswith("\ufeff") for text in rows[0]))
    with tempfile.TemporaryDirectory() as folder:
        names = [Path(folder) / "text.en", Path(folder) / "text.de"]
        for side, name in enumerate(names):
            name.write_bytes("".join(f"{row[side]}\n" for row in rows).encode())
        pairs = read_pairs(names[0], targets=names[1])
    assert list(zip(pairs.sources, pairs.targets, strict=True)) == rows


@pytest.mark.slow
@example(b"\xff\xff\xff\xff", "a.tsv", "utf-8")  # as a stream of Arrow, which goes on
@given(
    st.binary(max_size=60) | st.text("\t,;\"'{}[]:\n\r\0ab1\x85", max_size=60).map(str.encode),
    st.sampled_from(["a.tsv", "a.csv", "a.jsonl", "a.unknown"]),
    st.sampled_from(["utf-8", "latin1", "utf-16", "cp1252", "ascii"]),
)
def test_any_bytes_are_read_or_refused_in_our_words(content, name, encoding):
    assume(not content.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")))  # gzip, Zstandard
    assume(not find_form(content, is_named=False))  # Parquet, Arrow
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        problems = []
        try:
            problems = find_problems(path, encoding=encoding)
            pairs = read_pairs(path, encoding=encoding)
        except DataError as error:
            if "the list" in str(error) and not problems:  # of JSON, without an end
                assert path.suffix in (".jsonl", ".unknown")
                return
            assert str(error).startswith(problems[0] if problems else f"{path}: the file is empty")
        else:
            assert not problems
            assert len(pairs.sources) == len(pairs.targets) == len(pairs.lines) > 0


# --- lines


def test_blank_lines_are_skipped_and_counted():
    write("pairs.tsv", "\n  \na\tb\n\n\nc\td")
    assert read_pairs("pairs.tsv").lines == [3, 6]


def test_rows_with_one_or_both_sides_empty_are_kept():
    assert read("a\t\n\tb\n\t\n") == [("a", ""), ("", "b"), ("", "")]


def test_a_lone_carriage_return_ends_no_csv_row():
    assert read("a\rb,c\n\rd,e", "pairs.csv") == [("a\rb", "c"), ("\rd", "e")]


@pytest.mark.slow
def test_very_long_lines_are_read():
    long = "word " * 400_000
    assert read(f"{long}\tx\n") == [(long, "x")]
    assert read(f"{long},x\n", "pairs.csv") == [(long, "x")]


def test_reading_csv_leaves_the_field_limit_of_the_process_alone():
    before = csv.field_size_limit()
    read("a,b\n", "pairs.csv")
    assert csv.field_size_limit() == before


def test_csv_may_be_separated_by_semicolons():
    assert read('en;de\n"a;b";c,d\n', "pairs.csv") == [("a;b", "c,d")]


def test_csv_rows_are_numbered_by_the_line_they_begin_on():
    write("pairs.csv", 'en,de\n"a\nb",c\n\nd,e\n')
    assert read_pairs("pairs.csv").lines == [2, 5]


def test_columns_are_picked_by_name():
    chosen = {"columns": ("question", "answer")}
    assert read("id,answer,question\n1,b,a\n", "x.csv", **chosen) == [("a", "b")]
    assert read("id\tanswer\tquestion\n1\tb\ta\n", "x.tsv", **chosen) == [("a", "b")]
    assert read('{"answer": "b", "question": "a"}', "x.jsonl", **chosen) == [("a", "b")]


@pytest.mark.parametrize("content", ["a\tb\n", ' \n {"src": "a", "tgt": "b"}'])
@pytest.mark.parametrize("name", ["pairs", "pairs.data"])
def test_files_of_unknown_suffix_are_recognized_by_their_first_line(name, content):
    assert read(content, name) == [("a", "b")]


@pytest.mark.parametrize("content", [b"a\tb\n", b'\n{"src": "a", "tgt": "b"}'])
def test_pairs_come_from_standard_input(monkeypatch, content):
    give_input(monkeypatch, content)
    pairs = read_pairs("-")
    assert (pairs.path, pairs.sources, pairs.targets) == ("-", ["a"], ["b"])


def test_standard_input_stays_open_after_reading(monkeypatch):
    give_input(monkeypatch, "a\n".encode("utf-16"))
    assert list(read_lines("-", encoding="utf-16")) == ["a"]
    assert sys.stdin.buffer.closed is False


def test_the_hash_is_that_of_the_bytes():
    content = os.urandom(3_000_000)
    assert file_hash(write("a.bin", content)) == hashlib.sha256(content).hexdigest()


# --- faults of rows


def test_one_column_names_the_line_and_the_cause():
    assert fault("a\tb\n\nGuten Morgen Good morning\n") == (
        'pairs.tsv:3: one column, two expected.  "Guten Morgen Good morning"  '
        "Separated by spaces? Use a tab."
    )


def test_many_wrong_rows_are_counted_with_the_command_that_shows_them():
    assert fault("a\tb\nGuten Morgen Good morning\nx\ny\n") == (
        'pairs.tsv:2: one column, two expected.  "Guten Morgen Good morning"  '
        "Separated by spaces? Use a tab.  See all 3: regard check pairs.tsv"
    )


def test_the_command_that_shows_all_repeats_the_arguments():
    write("my de.txt", "a\nb\n")
    assert fault("\xff\n\xff\n".encode("latin1"), "en.txt", targets="my de.txt").endswith(
        '  See all 2: regard check en.txt --targets "my de.txt"'
    )
    assert fault("a\nb\n", encoding="latin1").endswith("regard check pairs.tsv --encoding latin1")


def test_three_columns_without_a_header_are_refused_once_and_have_numbers():
    assert fault("a\tb\tc\n" * 2) == (
        'pairs.tsv:1: three columns, two expected.  "a<TAB>b<TAB>c"  '
        "No header?  Name source and target: --columns 1,2"
    )


def test_a_row_of_three_columns_among_pairs_is_cut():
    assert fault("a\tb\na\tb\tc\n") == (
        'pairs.tsv:2: three columns, two expected.  "a<TAB>b<TAB>c"  '
        "Keep two of them: cut -f1,2 pairs.tsv > fixed.tsv"
    )


@pytest.mark.parametrize("name", ["x.tsv", "x.csv"])
def test_columns_without_a_header_are_named_by_their_numbers(name):
    separator = "\t" if name == "x.tsv" else ","
    rows = [["17", "Good morning", "Guten Morgen"], ["18", "Good night", "Gute Nacht"]]
    content = "".join(separator.join(row) + "\n" for row in rows)
    assert read(content, name, columns=("3", "2")) == [
        ("Guten Morgen", "Good morning"),
        ("Gute Nacht", "Good night"),
    ]
    read_as = inspect_pairs(open_source(name), "pairs", columns=("3", "2"))
    assert read_as.text.endswith("separated, no header, not used: 1)")
    assert fault(content, name, columns=("2", "4")) == (
        f'{name}:1: no column "4".  Columns seen: 1, 2, 3.'
    )


def test_a_header_above_columns_that_are_named_by_numbers_is_no_row():
    content = "id,en,de\n1,one,eins\n2,two,zwei\n"
    assert read(content, "x.csv", columns=("2", "3")) == [("one", "eins"), ("two", "zwei")]


def test_a_column_whose_name_is_a_number_is_found_by_its_name():
    assert read("2,1\na,b\n", "x.csv", columns=("1", "2")) == [("b", "a")]


def test_a_comma_too_many_asks_for_quotes():
    assert fault("a,b\nc,d,e\n", "pairs.csv") == (
        'pairs.csv:2: three columns, two expected.  "c,d,e"  '
        'A comma within a text? Put the text in quotes: "..."'
    )


def test_long_texts_are_shortened_in_messages():
    assert f'  "{"x" * 59}…"  ' in fault("x" * 61)
    assert f'  "{"x" * 60}"  ' in fault("x" * 60)


def test_control_characters_are_spelled_out_in_messages():
    assert '"a\\x1b[31mb\\u2028"' in fault("a\x1b[31mb\u2028")


def test_every_wrong_row_is_a_problem():
    write("pairs.tsv", b"a\tb\nx\n\xe9\ty\nc\td\n1\t2\t3\n")
    assert [problem[: len("pairs.tsv:3: not")] for problem in find_problems("pairs.tsv")] == [
        "pairs.tsv:2: one",
        "pairs.tsv:3: not",
        "pairs.tsv:5: thr",
    ]


def test_a_good_file_has_no_problems():
    assert find_problems(write("pairs.tsv", "a\tb\n")) == []


def test_a_csv_quote_that_is_never_closed_names_the_line_it_opens_on():
    assert fault('a,b\nc,"d\ne,f\n', "pairs.csv") == (
        'pairs.csv:2: a quote is opened here and never closed.  "c,"d"'
    )


def test_text_after_a_csv_quote_is_refused_and_not_mangled():
    assert fault('"a" b,c\n', "pairs.csv") == (
        "pairs.csv:1: not CSV: ',' expected after '\"'.  "
        'Quotes within a text are doubled and the text quoted.  ""a" b,c"'
    )


def test_a_missing_column_names_those_seen():
    assert fault("text,label\na,b\n", "x.csv", columns=("text", "summary")) == (
        'x.csv:1: no column "summary".  Columns seen: text, label.'
    )


def test_line_counts_of_aligned_files_must_agree():
    write("text.de", "a\n")
    assert fault("a\nb\n\n", "text.en", targets="text.de") == (
        "text.en: 3 lines, but text.de has 1.  "
        "Line by line they must be translations of each other."
    )


def test_a_blank_line_of_aligned_files_keeps_them_aligned():
    write("text.de", "x\n\nz\n")
    assert read("a\nb\nc\n", "text.en", targets="text.de") == [("a", "x"), ("b", ""), ("c", "z")]


def test_both_sides_cannot_come_from_standard_input():
    with pytest.raises(ConfigError) as caught:
        read_pairs("-", targets="-")
    assert error_text(caught.value) == (
        "standard input holds one side only.  Name a file: --targets FILE"
    )


# --- faults of files


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("pairs.tsv", "source<TAB>target"),
        ("pairs.csv", "source,target"),
        ("pairs.jsonl", '{"source": "...", "target": "..."}'),
        ("pairs", "source<TAB>target"),
    ],
)
def test_an_empty_file_is_refused_with_what_is_expected(name, form, content):
    assert fault(content, name) == (
        f"{name}: the file is empty.  Expected one pair a line: {form}."
    )


@pytest.mark.parametrize("reader", [read_pairs, find_problems, file_hash])
def test_a_directory_is_no_file(reader):
    Path("data").mkdir()
    with pytest.raises(DataError) as caught:
        reader("data")
    assert error_text(caught.value) == (
        "data: a directory, not a file.  "
        "Name one file: TSV, CSV, JSONL, Parquet, text (.txt), or two text files (--targets); or a "
        "folder with one folder of images or WAV files a label."
    )


def test_a_missing_file_is_named():
    with pytest.raises(DataError) as caught:
        read_pairs("nowhere/pairs.tsv")
    assert str(caught.value) == "nowhere/pairs.tsv: no such file."


@pytest.mark.parametrize(
    ("given_name", "meant"), [("pair.tsv", "pairs.tsv"), ("a/x.tvs", "a/x.tsv")]
)
def test_a_missing_file_suggests_one_of_a_similar_name(given_name, meant):
    Path("a").mkdir()
    write(meant, "a\tb\n")
    with pytest.raises(DataError) as caught:
        read_pairs(given_name)
    assert str(caught.value) == f"{given_name}: no such file.  Did you mean {meant}?"


def test_a_file_without_permission_says_so(monkeypatch):
    write("pairs.tsv", "a\tb\n")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError) as caught:
        read_pairs("pairs.tsv")
    assert str(caught.value) == (
        "pairs.tsv: no permission to read it.  Allow it: chmod u+r pairs.tsv"
    )


@pytest.mark.parametrize(("name", "cause"), [("x" * 300, "File name too long"), ("a\0b", "null")])
def test_a_name_that_cannot_be_opened_is_a_data_error(name, cause):
    with pytest.raises(DataError) as caught:
        read_pairs(name)
    beginning, _, reason = str(caught.value).partition(" (")
    assert beginning == f"{name}: cannot be opened"
    assert cause in reason


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs"])
def test_a_line_that_names_the_separator_is_obeyed(name):
    assert read("sep=;\nsource;target\na, b;c\n", name) == [("a, b", "c")]


def test_the_separator_is_the_one_that_all_rows_have():
    rows = "Hello, you;Hallo\nGood morning;Guten Morgen, alle\nOne, two;Eins, zwei\n"
    assert read(rows, "pairs.csv")[0] == ("Hello, you", "Hallo")


def test_two_columns_of_one_name_are_refused():
    content = "source,target,source\na,b,c\n"
    assert fault(content, "pairs.csv") == (
        'pairs.csv:1: two columns have the name "source".  Rename one of them.'
    )
    assert fault('{"source": "a", "target": "b", "source": "c"}', "pairs.jsonl").startswith(
        'pairs.jsonl:1: the key "source" is there twice.'
    )
    inner = '{"translation": {"en": "a", "de": "b", "en": "c"}}'
    assert 'the key "en" is there twice.' in fault(inner, "pairs.jsonl")
    assert read('{"source": "say \\"source\\": x", "target": "b"}', "p.jsonl")[0][1] == "b"


def test_two_columns_of_one_name_are_refused_where_nobody_asks_for_them():
    content = "source,target,note,note\na,b,c,d\n"
    assert fault(content, "pairs.csv") == (
        'pairs.csv:1: two columns have the name "note".  Rename one of them.'
    )
    assert read("source,target,,\na,b,,\n", "pairs.csv") == [("a", "b")]
    record = '{"source": "a", "target": "b", "note": 1, "note": 2}'
    assert 'the key "note" is there twice.' in fault(record, "pairs.jsonl")
    nested = '{"source": "a", "target": "b", "meta": {"x": 1, "y": [{"z": 1}, {"z": 2}]}}'
    assert read(nested, "pairs.jsonl") == [("a", "b")]


def test_problems_of_one_kind_are_grouped_with_their_first_lines():
    content = "a\tb\tc\n" * 5 + "x\ny\n"
    _, problems = parse_pairs(write("pairs.tsv", content))
    groups = group_problems(problems)
    assert [(group.locations, group.num_problems) for group in groups] == [
        (("1", "2", "3"), 5),
        (("6", "7"), 2),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.jsonl", '{"id": 1, "document": "long", "summary": "short"}\n'),
        ("d.jsonl", '{"highlights": "short", "article": "long"}\n'),
        ("d.csv", "id,Document,Summary\n1,long,short\n"),
        ("d.csv", "summary;text\nshort;long\n"),
        ("d.tsv", "document\tsummary\nlong\tshort\n"),
        ("d.tsv", "long\tshort\n"),
        ("d.jsonl", '{"source": "long", "target": "short"}\n'),
        ("d.csv", "target,source\nshort,long\n"),
    ],
)
def test_documents_with_summaries_are_read_from_every_format(name, content):
    assert read(content, name, roles=SUMMARY_ROLES) == [("long", "short")]


@pytest.mark.parametrize(
    ("name", "content", "line", "reason"),
    [
        ("d.jsonl", '{"document": "a", "summary": "b"}\n{"document": "a", "su', 2, "not JSON"),
        (
            "d.jsonl",
            '{"document": "a", "summary": "b"}\n{"document": "a"}\n',
            2,
            'no key "summary"',
        ),
        ("d.jsonl", '{"document": ["a"], "summary": "b"}\n', 1, '"document" is not a text'),
        ("d.jsonl", '{"id": 3}\n', 1, 'no key "document".  Keys seen: id'),
        ("d.jsonl", '{"a": "x", "b": "y"}\n', 1, "Name document and summary: `data.columns=a,b`"),
        ("d.csv", 'document,summary\n"a,b\n', 2, "a quote is opened here"),
        ("d.csv", "document,summary\na\n", 2, "one column, two expected"),
        ("d.tsv", "text\tlabel\na\tb\n", 1, "columns seen: text, label."),
    ],
)
def test_a_damaged_file_of_summaries_is_refused_with_its_line(name, content, line, reason):
    with pytest.raises(DataError) as error:
        read(content, name, roles=SUMMARY_ROLES)
    assert str(error.value).startswith(f"{name}:{line}: ")
    assert reason in str(error.value)


def test_documents_with_summaries_that_are_read_as_pairs_name_their_task():
    with pytest.raises(DataError, match=r"d\.tsv:1: columns seen: .* `task=summarization`"):
        read("document\tsummary\nlong\tshort\n", "d.tsv")


@pytest.mark.parametrize(
    ("name", "text", "noun"),
    [
        ("d.csv", "document,summary\na b c,a\n", "column"),
        ("d.jsonl", '{"document": "a b c", "summary": "a"}\n', "key"),
    ],
)
def test_a_misspelt_column_is_named_with_the_closest(tmp_path, name, text, noun):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as error:
        read_pairs(tmp_path / name, columns=("document", "sumary"))
    assert (
        f'no {noun} "sumary".  Did you mean summary?  {noun.capitalize()}s seen: document, summary.'
        in str(error.value)
    )


def test_a_header_alone_is_not_an_empty_file():
    assert fault("source,target\n", "x.csv") == (
        "x.csv: no rows below the names of columns.  Expected one pair a line: source,target."
    )
    assert fault("\ufeff\n", "x.csv").startswith("x.csv: the file is empty.")


def test_a_space_before_a_quote_is_named():
    text = 'source,target\n"a, b", "c, d"\n'
    assert fault(text, "x.csv") == (
        'x.csv:2: three columns, two expected.  "a, b, "c, d""  No space between a comma and a '
        "quote."
    )


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.csv", "pairs.tsv"])
@pytest.mark.parametrize("ends", [("", "\n", ""), ("[", ",\n", "]")])
def test_objects_of_json_are_pairs_in_a_file_of_any_name(name, ends):
    first, between, last = ends
    row = '{"source": "a, b", "target": "c"}'
    assert read(first + row + between + row + last, name) == [("a, b", "c")] * 2


def test_pairs_that_begin_with_a_brace_are_no_json():
    assert read("[{sic}] a\tb\n", "pairs.tsv") == [("[{sic}] a", "b")]
    assert read("[{sic}] a,b\n", "pairs.csv") == [("[{sic}] a", "b")]
    assert read("{0} files\t{0} Dateien\n{\tb\n", "pairs") == [
        ("{0} files", "{0} Dateien"),
        ("{", "b"),
    ]


def test_json_of_another_layout_has_its_command_in_a_file_of_any_name():
    text = '{\n"id": 1,\n"rows": [{"source": "a", "target": "b"}]\n}\n'
    assert "One row a line: jq -c '.rows[]'" in fault(text, "pairs.csv")


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        ("Hello, {0};Hallo {0}", ("Hello, {0}", "Hallo {0}")),
        ("Hello, {0};Hallo, du {0}, ja", ("Hello, {0}", "Hallo, du {0}, ja")),
        ("Well {0}|Nun {0}", ("Well {0}", "Nun {0}")),
        ("Well; {0},Nun {0}", ("Well; {0}", "Nun {0}")),
    ],
)
def test_a_sign_before_a_space_separates_no_columns(row, pair):
    rows = [row.format(number) for number in range(3)]
    texts = [tuple(text.format(number) for text in pair) for number in range(3)]
    assert read("\n".join(rows), "pairs.csv") == texts


def test_columns_of_numbers_and_codes_are_not_proposed():
    row = "17\teng\tGood morning\t18\tdeu\tGuten Morgen\n"
    assert fault("17\tGood morning\tGuten Morgen\n" * 3, "x.tsv").endswith("--columns 2,3")
    assert fault(row * 3, "x.tsv").endswith("--columns 3,6")
    pair = "Good morning\tGuten Morgen\n"
    assert "cut -f2,3" in fault(f"{pair}17\t{pair}", "x.tsv")
    assert "cut -f3,6" in fault(pair + row.replace("eng", "en").replace("deu", "de"), "x.tsv")


def test_a_separator_at_the_end_of_rows_has_the_command_that_drops_it():
    message = fault("source,target\na,b,\nc,d,\n", "x.csv")
    assert r"Drop the comma at the end: sed 's/,\r*$//' x.csv > fixed.csv" in message


def test_quotes_behind_a_backslash_have_the_command_that_doubles_them():
    message = fault('source,target\n"a \\"b\\" c",d\n', "x.csv")
    assert r"""Double them: sed 's/\\"/""/g' x.csv > fixed.csv""" in message


def test_many_columns_are_not_listed_in_full():
    names = ",".join(f"c{number}" for number in range(500))
    message = fault("\n".join([names, *[",".join("1" * 500)] * 4]), "x.csv")
    assert "Columns seen: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 490 more." in message


def test_numbers_below_a_column_without_a_name_are_told_to_name_it():
    message = fault(",load\n0,1.5\n1,2.5\n2,3.5\n", "x.csv")
    assert "Columns seen: a column without a name, load." in message
    assert message.endswith("Name its times in the first line: time,load")


def test_a_header_that_joined_files_have_again_is_left_out():
    rejected = []
    content = "\ufeffsource,target\na,b\n\ufeffsource,target\nc,d\n"
    assert read(content, "x.csv", rejected=rejected) == [("a", "b"), ("c", "d")]
    assert [(row.line, row.reason) for row in rejected] == [(3, "the header again")]
    assert read(content, "x.csv", columns=("2", "1")) == [("b", "a"), ("d", "c")]


def test_a_mark_of_byte_order_between_joined_files_is_no_text():
    assert read("\ufeffa\tb\n\ufeffc\td\n") == [("a", "b"), ("c", "d")]
    line = '\ufeff{"source": "a", "target": "b"}\n'
    assert read(2 * line, "x.jsonl") == [("a", "b"), ("a", "b")]
