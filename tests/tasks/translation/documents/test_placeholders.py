"""What counts as a placeholder, and which outputs keep all of them."""

from __future__ import annotations

import time

import pytest

from regard.tasks.translation.documents.placeholders import (
    Syntax,
    find_accelerator,
    put_accelerator,
)


@pytest.mark.parametrize(
    ("text", "placeholders"),
    [
        ("%s of %-5.2f and %1$s", ["%s", "%-5.2f", "%1$s"]),
        ("100%% of %(name)s, %<PRIu64> at 50% off", ["%%", "%(name)s", "%<PRIu64>", "%"]),
        ("{0} {name!r:>10} {{ user.name }} {}", ["{0}", "{name!r:>10}", "{{ user.name }}", "{}"]),
        ("{n, plural, one {# file} other {# files}}", None),
        ("$HOME and ${name} for $5", ["$HOME", "${name}"]),
        ('<b class="x">bold</b> &amp; <br/> a < b', ['<b class="x">', "</b>", "&amp;", "<br/>"]),
        (
            "see https://example.org/a?b=c#d. Or a@b.org!",
            ["https://example.org/a?b=c#d", "a@b.org"],
        ),
        ("use --force or -f, see /etc/hosts", ["--force", "-f", "/etc/hosts"]),
        (r"a \n b \"c\"", [r"\n", r"\"", r"\""]),
        ("%1 of %2, %APPDATA%", ["%1", "%2", "%APPDATA%"]),
        ("max_length, os.path() and/or 3/4", ["max_length", "os.path()"]),
        ("a text of words, with a well-known end - really.", []),
    ],
)
def test_placeholders_are_found(text, placeholders):
    assert Syntax().find(text) == ([text] if placeholders is None else placeholders)


def test_a_space_belongs_to_a_directive_only_where_the_text_is_known_to_be_a_format():
    assert Syntax().find("100% sure") == ["%"]
    assert Syntax(is_printf=True).find("% d") == ["% d"]


@pytest.mark.parametrize(
    ("output", "is_unharmed"),
    [
        ("{b} und {a}", True),
        ("{a} und {a}", False),
        ("{a} und {b} und {c}", False),
        ("{a} und b", False),
        ("{a} {b} }", False),
    ],
)
def test_an_output_has_each_placeholder_as_often_as_its_source(output, is_unharmed):
    assert Syntax().is_unharmed("{a} and {b}", output) == is_unharmed


def test_placeholders_without_names_and_tags_stay_in_order():
    assert Syntax().is_unharmed("%1$s of %2$d", "%2$d von %1$s")
    assert not Syntax().is_unharmed("%s of %d", "%d von %s")
    assert not Syntax().is_unharmed("<b>a</b>", "</b>a<b>")


@pytest.mark.parametrize(
    ("text", "index"),
    [("&File", 0), ("Save &As", 5), ("E&xit", 1), ("Cu_t", 2), ("_Open", 0)]
    + [(text, None) for text in ("AT&T", "R&D", "&amp;", "file_name", "a & b", "_a and _b")],
)
def test_the_mark_of_an_accelerator_is_known_from_other_signs(text, index):
    assert find_accelerator(text) == index


def test_an_accelerator_is_put_before_its_letter_if_there_is_one():
    assert put_accelerator("Datei", "&", "t", lambda _: False) == "Da&tei"
    assert put_accelerator("Öffnen", "_", "x", lambda _: False) == "_Öffnen"
    assert put_accelerator("%s Titel", "_", "s", lambda index: index < 2) == "%s _Titel"


@pytest.mark.parametrize("text", ["a", "a.", "{{ "])
def test_long_texts_without_the_ends_of_placeholders_are_searched_in_linear_time(text):
    start = time.process_time()
    Syntax().find(text * 20_000)
    assert time.process_time() - start < 5  # minutes where each beginning reads to the end
