"""Files of sentence pairs: every format round-trips, every fault names its line and a remedy."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from regard.cli.wording import error_text
from regard.data.readers.columns import SUMMARY_ROLES, is_column_name
from regard.data.readers.problems import group_problems
from regard.data.readers.source import file_hash
from regard.data.readers.tables import parse_pairs, read_pairs
from regard.data.readers.text_lines import read_lines
from regard.errors import ConfigError, DataError

ANY_TEXT = st.text(max_size=20)
LINE_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\0"), max_size=20)
CELL_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
LINE_ENDS = st.sampled_from(["\n", "\r\n"])
# White space and separators of Unicode, which are text here and end no line.
ODD_SPACES = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g\u00a0h"


def rows_of(text):
    return st.lists(st.tuples(text, text), min_size=1, max_size=5)


@pytest.fixture(autouse=True)
def inside_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def read(content: str | bytes, name: str = "pairs.tsv", **arguments) -> list[tuple[str, str]]:
    pairs = read_pairs(write(name, content), **arguments)
    return list(zip(pairs.sources, pairs.targets, strict=True))


def read_in_new_folder(content: bytes, name: str) -> list[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        pairs = read_pairs(path)
    return list(zip(pairs.sources, pairs.targets, strict=True))


def find_problems(path, **arguments) -> list[str]:
    return [str(problem) for problem in parse_pairs(path, **arguments)[1]]


def fault(content: str | bytes, name: str = "pairs.tsv", **arguments) -> str:
    with pytest.raises(DataError) as caught:
        read(content, name, **arguments)
    return error_text(caught.value)


def give_input(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content), closed=False))


# --- what is written is what is read


@pytest.mark.slow
@given(rows_of(LINE_TEXT), LINE_ENDS, st.booleans(), st.booleans())
def test_tsv_of_any_text_is_read_unchanged(rows, end, has_mark, ends_the_last_line):
    assume(has_mark or not rows[0][0].startswith("\ufeff"))
    text = end.join(f"{source}\t{target}" for source, target in rows)
    content = (text + end * ends_the_last_line).encode("utf-8-sig" if has_mark else "utf-8")
    assert read_in_new_folder(content, "pairs.tsv") == rows


@pytest.mark.slow
@given(rows_of(CELL_TEXT), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), st.booleans())
def test_csv_of_any_text_is_read_unchanged(rows, quoting, has_header):
    assume(has_header or not rows[0][0].startswith("\ufeff"))
    assume(has_header or not any(map(is_column_name, rows[0])))
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=quoting, lineterminator="\r\n")
    writer.writerows([("source", "target")] * has_header + rows)
    assert read_in_new_folder(stream.getvalue().encode(), "pairs.csv") == rows


@pytest.mark.slow
@given(rows_of(ANY_TEXT), st.booleans(), LINE_ENDS)
def test_jsonl_of_any_text_is_read_unchanged(rows, is_ascii, end):
    objects = ({"source": source, "target": target} for source, target in rows)
    text = "".join(json.dumps(row, ensure_ascii=is_ascii) + end for row in objects)
    assert read_in_new_folder(text.encode(), "pairs.jsonl") == rows


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
@given(st.lists(LINE_TEXT, max_size=5), LINE_ENDS)
def test_lines_of_any_text_are_read_unchanged(lines, end):
    assume(not (lines and lines[0].startswith("\ufeff")))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes("".join(line + end for line in lines).encode())
        assert list(read_lines(path)) == lines


@pytest.mark.slow
@given(
    st.binary(max_size=60) | st.text("\t,;\"'{}[]:\n\r\0ab1\x85", max_size=60).map(str.encode),
    st.sampled_from(["a.tsv", "a.csv", "a.jsonl", "a.unknown"]),
    st.sampled_from(["utf-8", "latin1", "utf-16", "cp1252", "ascii"]),
)
def test_any_bytes_are_read_or_refused_in_our_words(content, name, encoding):
    assume(not content.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")))  # gzip, Zstandard
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        problems = find_problems(path, encoding=encoding)
        try:
            pairs = read_pairs(path, encoding=encoding)
        except DataError as error:
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


def test_odd_spaces_end_no_line():
    assert read(f"{ODD_SPACES}\tx\n") == [(ODD_SPACES, "x")]


def test_a_lone_carriage_return_ends_no_line():
    assert read("a\rb\tc\rd\n") == [("a\rb", "c\rd")]


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


# --- formats


@pytest.mark.parametrize("header", ["source,target", "Src,TGT", "en,de", "id,en,de", "en-GB,de_DE"])
def test_a_csv_header_is_recognised(header):
    cells = "1,a,b" if header.startswith("id") else "a,b"
    assert read(f"{header}\n{cells}\n", "pairs.csv") == [("a", "b")]


def test_the_columns_of_a_csv_header_may_come_in_any_order():
    assert read("target,note,source\nb,x,a\n", "pairs.csv") == [("a", "b")]


def test_csv_without_a_header_keeps_its_first_row():
    assert read("Good morning,Guten Morgen\na,b\n", "pairs.csv")[0][0] == "Good morning"


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


def test_a_tsv_header_is_recognised_by_plain_words_but_not_by_codes():
    assert read("source\ttarget\na\tb\n") == [("a", "b")]
    assert read("so\tda\na\tb\n") == [("so", "da"), ("a", "b")]


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


@pytest.mark.parametrize("content", ["a\tb\n", ' \n {"src": "a", "tgt": "b"}'])
@pytest.mark.parametrize("name", ["pairs", "pairs.data"])
def test_files_of_unknown_suffix_are_recognized_by_their_first_line(name, content):
    assert read(content, name) == [("a", "b")]


@pytest.mark.parametrize("content", [b"a\tb\n", b'\n{"src": "a", "tgt": "b"}'])
def test_pairs_come_from_standard_input(monkeypatch, content):
    give_input(monkeypatch, content)
    pairs = read_pairs("-")
    assert (pairs.path, pairs.sources, pairs.targets) == ("-", ["a"], ["b"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16le", "utf-32", "utf-8-sig", "gb18030"])
def test_other_encodings_are_read_by_name(encoding):
    assert read("早上\t上午\r\nb\ta".encode(encoding), encoding=encoding) == [
        ("早上", "上午"),
        ("b", "a"),
    ]


def test_standard_input_stays_open_after_reading(monkeypatch):
    give_input(monkeypatch, "a\n".encode("utf-16"))
    assert list(read_lines("-", encoding="utf-16")) == ["a"]
    assert sys.stdin.buffer.closed is False


# --- headers that are not understood

REVIEWS = [(f"the meal number {i} was fine", ("good", "bad")[i % 2]) for i in range(20)]


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
        "x.csv:1: columns seen: text, gloss.  Name source and target: --columns text,gloss"
    )


def test_a_word_list_may_begin_with_a_usual_name():
    assert read("text\tTextbuch\nred\trot\n")[0] == ("text", "Textbuch")


def test_pairs_whose_targets_repeat_have_no_header():
    rows = [("no", "nein"), *((f"this is sentence {i}", "nein") for i in range(9))]
    assert read("".join(f"{a}\t{b}\n" for a, b in rows))[0] == ("no", "nein")


def test_codes_that_no_word_looks_like_are_a_tsv_header():
    assert read("EN\tDE\na\tb\n") == [("a", "b")]
    assert read("en-US\tde-DE\na\tb\n") == [("a", "b")]


# --- lines of text, hashes


def test_lines_are_streamed(monkeypatch):
    monkeypatch.setattr(
        "sys.stdin", SimpleNamespace(buffer=itertools.repeat(b"again\n"), closed=False)
    )
    assert list(itertools.islice(read_lines("-"), 3)) == ["again"] * 3


def test_blank_lines_of_a_text_are_lines():
    assert list(read_lines(write("a.txt", "\ufeffa\n\n b \r\n\n"))) == ["a", "", " b ", ""]


def test_a_text_that_breaks_off_in_the_middle_gives_the_lines_before():
    lines = read_lines(write("a.txt", b"good\n\xe9t\xe9\n"))
    assert next(lines) == "good"
    with pytest.raises(DataError, match=r"^a\.txt:2: not UTF-8 at byte 1 \(0xE9\)\.  Looks like"):
        next(lines)


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


def test_three_columns_are_refused_like_one():
    assert fault("a\tb\tc\n") == (
        'pairs.tsv:1: three columns, two expected.  "a<TAB>b<TAB>c"  '
        "Keep two of them: cut -f1,2 pairs.tsv > fixed.tsv"
    )


def test_a_comma_too_many_asks_for_quotes():
    assert fault("a,b\nc,d,e\n", "pairs.csv") == (
        'pairs.csv:2: three columns, two expected.  "c,d,e"  '
        'A comma within a text? Put the text in quotes: "..."'
    )


def test_the_header_decides_how_many_columns_are_expected():
    assert fault("id,en,de\n1,a\n", "pairs.csv") == (
        'pairs.csv:2: two columns, three expected.  "1,a"  Separated by spaces? Use a comma.'
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
        ('{"source": "a", "target": null}', '"target" is not a text.'),
        ('"a"', 'no object such as {"source": "...", "target": "..."}.'),
        (
            '[{"a": 1}]',
            "a list, one object a line expected.  Convert: jq -c '.[]' FILE > fixed.jsonl",
        ),
    ],
)
def test_a_json_line_without_two_texts_is_refused_with_its_keys(row, message):
    assert fault(row, "pairs.jsonl") == f'pairs.jsonl:1: {message}  "{row}"'


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


# --- faults of encoding


def test_latin1_is_recognised():
    content = "a\tb\nGuten Tag\tbonne \xe9t\xe9\n".encode("latin1")
    assert fault(content) == (
        "pairs.tsv:2: not UTF-8 at byte 17 (0xE9).  Looks like Latin-1.  "
        "Convert: iconv -f latin1 -t utf8 pairs.tsv > fixed.tsv, or pass --encoding latin1"
    )


def test_commands_in_messages_quote_the_name_and_keep_the_suffix():
    assert "iconv -f latin1 -t utf8 'my pairs.csv' > fixed.csv," in fault(
        b"\xe9,a\n", "my pairs.csv"
    )


def test_windows_quotation_marks_are_recognised():
    assert "Looks like Windows-1252.  Convert: iconv -f cp1252 " in fault("„ä“\tb".encode("cp1252"))


@pytest.mark.parametrize("encoding", ["cp1251", "shift_jis"])
def test_other_encodings_are_not_taken_for_latin1(encoding):
    text = {"cp1251": "Привет", "shift_jis": "こんにちは"}[encoding]
    assert fault(f"{text}\tb".encode(encoding)).endswith(
        ").  Which encoding is it? Name it, such as --encoding cp1251"
    )


def test_one_damaged_character_in_utf8_is_no_other_encoding():
    assert fault("Привет\tмир".encode()[:-1]) == (
        "pairs.tsv:1: not UTF-8 at byte 18 (0xD1).  A damaged character?  "
        "Drop it: iconv -c -f utf8 -t utf8 pairs.tsv > fixed.tsv"
    )


def test_utf16_is_recognised_by_its_mark():
    assert fault(b"\xff\xfe" + "Привет\tb\nc\td\n".encode("utf-16le")) == (
        "pairs.tsv:1: not UTF-8 at byte 1 (0xFF).  Looks like UTF-16.  "
        "Convert: iconv -f utf-16 -t utf8 pairs.tsv > fixed.tsv, or pass --encoding utf-16"
    )


@pytest.mark.parametrize("encoding", ["utf-16le", "utf-16be"])
def test_utf16_without_a_mark_is_recognised_by_its_zeros(encoding):
    assert fault("Guten Tag\tb\nc\td\n".encode(encoding)).endswith(
        f".  Looks like UTF-16.  Convert: iconv -f {encoding} -t utf8 pairs.tsv > fixed.tsv, "
        f"or pass --encoding {encoding}"
    )


def test_a_wrong_encoding_name_for_the_bytes_is_refused():
    assert fault(b"a\tb\n", encoding="utf-16") == (
        "pairs.tsv: not utf-16 (UTF-16 stream does not start with BOM).  "
        "Name another: --encoding utf-8"
    )
    assert fault(b"a\xe9\tb\n", encoding="ascii").startswith(
        "pairs.tsv:1: not ascii at byte 2 (0xE9)."
    )


def test_a_nul_byte_is_named_with_its_position():
    assert fault("a\tb\n" * 11 + "good\0\tx\n") == (
        "pairs.tsv:12: a NUL byte at byte 5.  Text files hold none; is this a binary file?"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("latn1", "Did you mean latin1?"),
        ("klingon", "Among those known: utf-8, utf-16, latin1, cp1252, gb18030, shift_jis."),
        ("hex", "Among those known: utf-8, utf-16, latin1, cp1252, gb18030, shift_jis."),
        ("", "Among those known: utf-8, utf-16, latin1, cp1252, gb18030, shift_jis."),
    ],
)
def test_an_unknown_encoding_is_a_wrong_setting(name, hint):
    write("pairs.tsv", "a\tb\n")
    for reader in (read_pairs, find_problems, lambda *a, **k: list(read_lines(*a, **k))):
        with pytest.raises(ConfigError) as caught:
            reader("pairs.tsv", encoding=name)
        assert str(caught.value) == f'unknown encoding "{name}".  {hint}'


# --- faults of files


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.csv", "pairs.jsonl", "pairs"])
def test_an_empty_file_is_refused_with_what_is_expected(name, content):
    assert fault(content, name) == (
        f"{name}: the file is empty.  Expected one pair a line: source<TAB>target."
    )


@pytest.mark.parametrize("reader", [read_pairs, find_problems, file_hash])
def test_a_directory_is_no_file(reader):
    Path("data").mkdir()
    with pytest.raises(DataError) as caught:
        reader("data")
    assert error_text(caught.value) == (
        "data: a directory, not a file.  "
        "Name one file: TSV, CSV, JSONL, or two text files (--targets); or a folder with one "
        "folder of images or WAV files a label."
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


@pytest.mark.parametrize(
    ("name", "cause"), [("x" * 300, "File name too long"), ("a\0b", "embedded null byte")]
)
def test_a_name_that_cannot_be_opened_is_a_data_error(name, cause):
    with pytest.raises(DataError) as caught:
        read_pairs(name)
    assert str(caught.value) == f"{name}: cannot be opened ({cause})."


# --- headers, separators and what else people's files have


ENGLISH_FRENCH = "id,English,French\n0,one cat,un chat\n1,two dogs,deux chiens\n"


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


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs"])
def test_a_line_that_names_the_separator_is_obeyed(name):
    assert read("sep=;\nsource;target\na, b;c\n", name) == [("a, b", "c")]


def test_the_separator_is_the_one_that_all_rows_have():
    rows = "Hello, you;Hallo\nGood morning;Guten Morgen, alle\nOne, two;Eins, zwei\n"
    assert read(rows, "pairs.csv")[0] == ("Hello, you", "Hallo")


def test_carriage_returns_end_lines_where_nothing_else_does():
    write("pairs.tsv", "a\tb\rc\td\r")
    assert read_pairs("pairs.tsv").lines == [1, 2]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_carriage_returns_end_lines_of_wide_encodings(encoding):
    content = "\u010d\tb\rc\td".encode(encoding)  # its bytes hold those of CR
    assert read(content, encoding=encoding) == [("\u010d", "b"), ("c", "d")]


def test_lines_that_are_streamed_may_end_with_carriage_returns():
    assert list(read_lines(write("a.txt", "a\rb\r"))) == ["a", "b"]


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


def test_half_a_surrogate_pair_is_named():
    assert fault('{"source": "\\ud83d", "target": "b"}', "p.jsonl").startswith(
        r"p.jsonl:1: not JSON: half of a character (\ud83d)."
    )
    assert read('{"source": "\\ud83d\\ude00", "target": "b"}', "p.jsonl") == [("😀", "b")]


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"PK\x03\x04rest", "a ZIP archive, or a document of Excel or Word"),
        (b"\x93NUMPY\x01\0v\0", "an array of NumPy"),
        (b"ORC\x0a\x0b\x01\0", "an ORC file"),
        (b"name".ljust(257, b"\0") + b"ustar\0", "a tar archive"),
        (b"%PDF-1.7\n\xff", "a PDF document"),
        (b"PAR1\x15", "a Parquet file"),
    ],
)
def test_binary_files_are_named_for_what_they_are(start, name):
    assert fault(start, "pairs.csv").startswith(f"pairs.csv: {name}, not text.")


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ("a.txt", "a ZIP archive"),
        ("xl/workbook.xml", "an Excel workbook"),
        ("word/document.xml", "a Word document"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_zipped_documents_are_named_for_what_they_are(member, name, encoding):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr(member, "x")
    message = fault(archive.getvalue(), "pairs.csv", encoding=encoding)
    assert message.startswith(f"pairs.csv: {name}, not text.")


def test_a_text_may_begin_as_a_binary_file_does():
    assert read("ORCA\tOrka\nRIFF\tRiff\n") == [("ORCA", "Orka"), ("RIFF", "Riff")]


def test_the_encoding_of_a_file_is_guessed_once():
    content = "caf\xe9\tx\n".encode("latin1") + "„so“\ty\n".encode("cp1252")
    problems = find_problems(write("pairs.tsv", content))
    assert len(problems) == 2
    assert all("Looks like Windows-1252." in problem for problem in problems)


def test_control_characters_of_a_wrong_encoding_are_noticed():
    problem = fault("„so“\ty\n".encode("cp1252"), encoding="latin1")
    assert problem.startswith("pairs.tsv:1: a control character at byte 1 (0x84).  ")
    assert problem.endswith("or pass --encoding cp1252")


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
