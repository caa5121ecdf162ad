"""Lines of text files: any encoding, any ends of lines, and where a file is no text."""

from __future__ import annotations

import io
import itertools
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.data.readers.pair_files import fault, find_problems, read, write

from regard.data.readers.tables import read_pairs
from regard.data.readers.text_lines import read_lines
from regard.errors import ConfigError, DataError

LINE_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\0"), max_size=20)
LINE_ENDS = st.sampled_from(["\n", "\r\n"])
# White space and separators of Unicode, which are text here and end no line.
ODD_SPACES = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g\u00a0h"
pytestmark = pytest.mark.usefixtures("inside_an_empty_folder")


@pytest.mark.slow
@given(st.lists(LINE_TEXT, max_size=5), LINE_ENDS)
def test_lines_of_any_text_are_read_unchanged(lines, end):
    assume(not (lines and lines[0].startswith("\ufeff")))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes("".join(line + end for line in lines).encode())
        assert list(read_lines(path)) == lines


def test_odd_spaces_end_no_line():
    assert read(f"{ODD_SPACES}\tx\n") == [(ODD_SPACES, "x")]


def test_a_lone_carriage_return_ends_no_line():
    assert read("a\rb\tc\rd\n") == [("a\rb", "c\rd")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16le", "utf-32", "utf-8-sig", "gb18030"])
def test_other_encodings_are_read_by_name(encoding):
    assert read("早上\t上午\r\nb\ta".encode(encoding), encoding=encoding) == [
        ("早上", "上午"),
        ("b", "a"),
    ]


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
    with pytest.raises(UnicodeError) as of_python:  # its words differ by version
        io.TextIOWrapper(io.BytesIO(b"a\tb\n"), encoding="utf-16").read()
    assert fault(b"a\tb\n", encoding="utf-16") == (
        f"pairs.tsv: not utf-16 ({of_python.value}).  Name another: --encoding utf-8"
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


def test_carriage_returns_end_lines_where_nothing_else_does():
    write("pairs.tsv", "a\tb\rc\td\r")
    assert read_pairs("pairs.tsv").lines == [1, 2]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_carriage_returns_end_lines_of_wide_encodings(encoding):
    content = "\u010d\tb\rc\td".encode(encoding)  # its bytes hold those of CR
    assert read(content, encoding=encoding) == [("\u010d", "b"), ("c", "d")]


def test_lines_that_are_streamed_may_end_with_carriage_returns():
    assert list(read_lines(write("a.txt", "a\rb\r"))) == ["a", "b"]


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"PK\x03\x04rest", "a ZIP archive, or a document of Excel or Word"),
        (b"\x93NUMPY\x01\0v\0", "an array of NumPy"),
        (b"ORC\x0a\x0b\x01\0", "an ORC file"),
        (b"name".ljust(257, b"\0") + b"ustar\0", "a tar archive"),
        (b"%PDF-1.7\n\xff", "a PDF document"),
    ],
)
def test_binary_files_are_named_for_what_they_are(start, name):
    assert fault(start, "pairs.csv").startswith(f"pairs.csv: {name}, not text.")


@pytest.mark.parametrize(
    ("member", "name"),
    [
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
