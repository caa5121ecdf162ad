"""Translations keep placeholders, whatever a model writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.tasks.translation.documents.document import Segment
from regard.tasks.translation.documents.filling import Way, fill_segments
from regard.tasks.translation.documents.placeholders import Syntax


def fill(text, outputs, **options):
    """Return the translation of a text by a model whose outputs for each sentence are known."""
    segment = Segment(text=text, syntax=Syntax(has_accelerators=True), **options)
    (filled,) = fill_segments(
        [segment], lambda texts: [outputs.get(text, [""]) for text in texts], lambda _: True
    )
    return filled.text, filled.way


def test_the_first_output_is_taken_where_it_is_unharmed():
    assert fill("%d files", {"%d files": ["%d Dateien"]}) == ("%d Dateien", Way.AS_WRITTEN)


def test_another_output_is_taken_where_the_first_one_lost_a_placeholder():
    outputs = {"%d files": ["Dateien", "%d Dateien"]}
    assert fill("%d files", outputs) == ("%d Dateien", Way.ANOTHER_OUTPUT)


def test_words_between_placeholders_are_translated_where_no_output_has_them():
    outputs = {"Copy %s to %s.": ["Kopiere %s."], "Copy": ["Kopiere"], "to": ["nach", "zu"]}
    assert fill("Copy %s to %s.", outputs) == ("Kopiere %s nach %s.", Way.IN_PARTS)


def test_a_text_for_which_nothing_is_written_stays():
    assert fill("%s files", {}) == ("%s files", Way.AS_IN_THE_SOURCE)


def test_an_output_without_a_letter_is_none():
    assert fill("Done", {"Done": [".", "Fertig"]}) == ("Fertig", Way.ANOTHER_OUTPUT)


def test_a_part_with_a_new_placeholder_is_refused():
    outputs = {"Copy %s": [""], "Copy": ["%d", "Kopiere"]}
    assert fill("Copy %s", outputs) == ("Kopiere %s", Way.IN_PARTS)


@pytest.mark.parametrize(
    ("text", "sentence", "output", "translation"),
    [
        ("  Save \n", "Save", "Sichern.", "  Sichern \n"),
        ("Loading...", "Loading...", "laden …", "Laden..."),
        ("Name:", "Name:", "Name", "Name:"),
        ("FILE NOT FOUND", "File not found", "Datei fehlt", "DATEI FEHLT"),
        ("&Save", "Save", "Sichern", "&Sichern"),
        ("-v, --verbose   say more", "say more", "mehr sagen", "-v, --verbose   mehr sagen"),
        ("* One", "One", "Eins", "* Eins"),
    ],
)
def test_spaces_signs_and_capitals_are_those_of_the_source(text, sentence, output, translation):
    assert fill(text, {sentence: [output]})[0] == translation


def test_sentences_are_translated_one_by_one():
    outputs = {"One is e.g. %s.": ["Eins ist %s."], "Two?": ["Zwei?"]}
    assert fill("One is e.g. %s.  Two?", outputs)[0] == "Eins ist %s.  Zwei?"


def test_lines_that_continue_a_sentence_are_one_text_broken_into_as_many():
    first, second = "This is a line that has been wrapped since it", "is too long"
    outputs = {f"{first} {second}": ["Dies ist eine lange Zeile und eine zweite"]}
    assert fill(f"{first}\n{second}", outputs)[0] == "Dies ist eine lange\nZeile und eine zweite"


def test_a_format_may_refuse_a_translation_which_is_then_made_in_parts():
    outputs = {"a %s": ["# %s"], "a": ["ein"]}
    result = fill("a %s", outputs, accepts=lambda text: "#" not in text)
    assert result == ("ein %s", Way.IN_PARTS)


words = st.sampled_from(
    [
        "file",
        "%s",
        "%d",
        "{0}",
        "{name}",
        "<b>",
        "</b>",
        "&amp;",
        "100%",
        "{",
        "\n",
        "--x",
        "_a",
        ".",
    ]
)
texts = st.lists(words, max_size=8).map(" ".join)


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_placeholders_are_unharmed_whatever_is_written(source, outputs):
    segment = Segment(text=source)
    (filled,) = fill_segments([segment], lambda asked: [outputs] * len(asked), lambda _: True)
    assert sorted(Syntax().find(filled.text)) == sorted(Syntax().find(source))
    assert filled.text.count("\n") == source.count("\n")
