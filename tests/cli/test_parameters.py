"""Words of a command line: whole numbers, dashes, surplus words and broken text."""

from __future__ import annotations

import json

import pytest
from tests.cli.commands import run

from regard.__main__ import main


@pytest.mark.parametrize(
    "words",
    [
        ("translate", "m", "x", "--beam", "2.5"),
        ("generate", "m", "x", "--num", "1.0"),
        ("train", "x.tsv", "-o", "m", "--horizon", "0.5"),
        ("evaluate", "m", "x.tsv", "--worst", "3.7"),
    ],
)
def test_a_fraction_is_refused_and_not_rounded(capsys, words):
    assert main(list(words)) == 2
    assert f"{words[-1]}: a whole number was expected" in capsys.readouterr().err


def test_text_that_begins_with_a_dash_goes_behind_two(capsys, trained):
    assert run(capsys, "translate", trained, "-x")[0] == 2
    code, out, _ = run(capsys, "translate", trained, "--beam", 1, "--", "--json")
    assert (code, out.count("\n")) == (0, 1)


@pytest.mark.parametrize(
    ("word", "cause"),
    [("caf\udce9", "not UTF-8 at byte 4 (0xE9)."), ("a\ud800", "half of a character (U+D800)")],
)
def test_broken_text_on_the_command_line_is_named(capsys, trained, word, cause):
    code, _, err = run(capsys, "translate", trained, word)
    assert code == 2
    assert cause in err


def test_a_word_that_another_locale_cannot_read_is_not_called_broken(capsys, monkeypatch):
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    assert run(capsys, "translate", "m", "caf\udcc3\udca9")[::2] == (
        2,
        'regard: "café": not in ascii, the encoding of this locale.  Take UTF-8: '
        "set PYTHONUTF8=1\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("answer", "M", "q", "extra"),
            '"extra" is not expected.  Put a text of several words in quotes.  '
            "Usage: regard answer MODEL [QUESTION] [OPTIONS]  See: regard answer --help",
        ),
        (
            ("train", "a", "b", "-"),
            '"b", "-" are not expected.  Usage: regard train [DATA] [OPTIONS]  '
            "See: regard train --help",
        ),
    ],
)
def test_a_surplus_word_is_named_with_the_usage(capsys, words, message):
    assert run(capsys, *words)[::2] == (2, f"regard: {message}\n")


def test_several_files_are_not_called_a_text_of_several_words(capsys, tmp_path):
    (tmp_path / "a.png").touch()
    code, _, err = run(capsys, "classify", "M", tmp_path / "a.png", tmp_path / "a.png")
    assert code == 2
    assert "is not expected.  Several files?  Name their folder, or join them" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("evaluate", "M"),
            "DATA is missing.  Usage: regard evaluate MODEL DATA [OPTIONS]  "
            "See: regard evaluate --help",
        ),
        (("quantize", "M"), "-o is missing.  See: regard quantize --help"),
        (("translate", "M", "a", "--beam"), "--beam needs a value.  See: regard translate --help"),
    ],
)
def test_what_is_missing_is_named_as_it_is_typed(capsys, words, message):
    assert run(capsys, *words)[::2] == (2, f"regard: {message}\n")


def test_a_number_with_a_minus_is_text(capsys, trained):
    for words in (("-5",), ("--", "-5")):
        code, out, _ = run(capsys, "translate", trained, "--beam", 1, "--json", *words)
        assert code == 0
        assert json.loads(out)["text"] == "-5"
