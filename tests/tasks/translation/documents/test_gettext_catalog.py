"""Catalogs of gettext: what is filled, what stays the same bytes, and what is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime

import polib
import pytest
from tests.tasks.translation.documents.stub_model import translate

from regard.errors import DataError

HEADER = r"""# A header.
msgid ""
msgstr ""
"PO-Revision-Date: YEAR-MO-DA HO:MI+ZONE\n"
"Language: \n"
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=INTEGER; plural=EXPRESSION;\n"
"""
CATALOG = f"""{HEADER}
#. a comment
#: foo.c:12
#, c-format
msgid "%d file of %s"
msgid_plural "%d files of %s"
msgstr[0] ""
msgstr[1] ""

msgctxt "menu"
msgid   "Open"
msgstr ""

msgid "done"
msgstr "fertig"

#, fuzzy
#| msgid "before"
msgid "maybe"
msgstr "vielleicht"

#~ msgid "old"
#~ msgstr "alt"
"""
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def test_only_entries_without_a_translation_are_filled():
    text, _ = translate("a.po", CATALOG, now=NOW)
    expected = CATALOG.replace(
        'msgid   "Open"\nmsgstr ""', 'msgid   "Open"\nmsgstr "Nepo"'
    ).replace('msgstr[0] ""\nmsgstr[1] ""', 'msgstr[0] "%d elif fo %s"\nmsgstr[1] "%d selif fo %s"')
    changes = {
        "YEAR-MO-DA HO:MI+ZONE": "2026-01-02 03:04+0000",
        "Language: ": "Language: de",
        "nplurals=INTEGER; plural=EXPRESSION;": "nplurals=2; plural=(n != 1);",
    }
    for old, new in changes.items():
        expected = expected.replace(old, new)
    assert text == expected


def test_translations_are_marked_as_fuzzy_if_asked_for():
    catalog = polib.pofile(translate("a.po", CATALOG, fuzzy=True)[0])
    flags = {entry.msgid: entry.flags for entry in catalog if not entry.obsolete}
    assert flags["%d file of %s"] == ["fuzzy", "c-format"]
    assert flags["Open"] == ["fuzzy"]
    assert flags["done"] == []


@pytest.mark.parametrize(
    ("language", "plural_forms", "sources"),
    [
        ("de", "", ["elif", "selif"]),
        ("ja", "", ["selif"]),
        ("ru", "", ["elif", "selif", "selif"]),
        ("xx", "nplurals=2; plural=n>1;", ["elif", "selif"]),
        ("ar", "", ["selif", "elif", "selif", "selif", "selif", "selif"]),
    ],
)
def test_plural_forms_are_those_of_the_target(language, plural_forms, sources):
    header = HEADER.replace("nplurals=INTEGER; plural=EXPRESSION;", plural_forms)
    entry = 'msgid "%d file"\nmsgid_plural "%d files"\nmsgstr[0] ""\n'
    catalog = polib.pofile(translate("a.po", f"{header}\n{entry}", target=language)[0])
    assert list(catalog[0].msgstr_plural.values()) == [f"%d {source}" for source in sources]


def test_a_form_for_other_numbers_too_takes_the_plural_where_the_singular_has_no_number():
    entry = 'msgid "One file"\nmsgid_plural "%d files"\nmsgstr[0] ""\n'
    catalog = polib.pofile(translate("a.po", f"{HEADER}\n{entry}", target="ru")[0])
    assert catalog[0].msgstr_plural[0] == "%d selif"


def test_the_encoding_and_the_ends_of_lines_of_a_catalog_stay():
    content = CATALOG.replace("UTF-8", "ISO-8859-1").replace("fertig", "völlig")
    content = content.replace("\n", "\r\n")
    quoted = {"Open": ["„Öffnen“", "Öffnen"]}
    text, _ = translate(
        "a.po", content.encode("latin-1"), lambda texts: [quoted.get(t, [t]) for t in texts]
    )
    assert 'msgstr "völlig"\r\n' in text
    assert 'msgstr "Öffnen"\r\n' in text
    assert not re.search("[^\r]\n", text)


def test_long_texts_and_those_of_several_lines_are_broken_as_gettext_does():
    entry = r'msgid "a\n" "b \"quoted\"\n"' + '\nmsgstr ""\n'
    entry = entry.replace('" "', '"\n"')
    long = 'msgid ""\n"' + "words " * 20 + 'end"\nmsgstr ""'
    text, _ = translate("a.po", f"{HEADER}\n{entry}\n{long}", lambda texts: [[t] for t in texts])
    assert 'msgstr ""\n"a\\n"\n"b \\"quoted\\"\\n"\n' in text
    assert max(map(len, text.rpartition("msgstr")[2].splitlines())) <= 79
    assert polib.pofile(text)[1].msgstr == "words " * 20 + "end"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (('msgid "done"', 'msgid "done'), r"a\.po:21: .* is not a line of a catalog"),
        (('msgstr "fertig"\n', ""), r"a\.po:25: msgid was not expected here"),
        (('msgstr "fertig"', "msgstr fertig"), r"a\.po:22: .* is not a line of a catalog"),
        ((CATALOG, "hello\n"), r'a\.po:1: "hello" is not a line of a catalog'),
        ((CATALOG, 'msgid "x"\n'), r"a\.po:1: the file ends within an entry"),
        ((CATALOG, 'msgstr "x"\n'), r"a\.po:1: msgstr was not expected here"),
        ((CATALOG, '"x"\n'), r"a\.po:1: a text in quotes without msgid"),
    ],
)
def test_a_damaged_catalog_is_refused_with_its_line(damage, message):
    with pytest.raises(DataError, match=message):
        translate("a.po", CATALOG.replace(*damage))


def test_bytes_that_are_not_of_the_encoding_are_refused():
    with pytest.raises(DataError, match=r"a\.po:22: not UTF-8 at byte 12"):
        translate("a.po", CATALOG.encode().replace(b"fertig", b"fer\xfctig"))


def test_comments_without_spaces_and_unusual_line_ends_are_read():
    text, _ = translate("a.po", HEADER + '\n#,c-format\n#:x.c:1\nmsgid "a\x85b"\nmsgstr ""\n')
    assert 'msgstr "a\x85b"\n' in text


@pytest.mark.parametrize("icon", ["\ue000", "\uf015", "\U000f0041", "\U000f0085", "\U0010fffd"])
def test_characters_for_private_use_stay_as_they_are(icon):
    text, _ = translate("a.po", f'{HEADER}\nmsgid "{icon} one\x85 {icon}"\nmsgstr ""\n')
    assert f'msgid "{icon} one\x85 {icon}"' in text
    assert f'msgstr "{icon} eno\x85 {icon}"' in text


def test_a_catalog_without_a_header_or_an_end_of_line_is_filled():
    assert translate("a.po", 'msgid "one"\nmsgstr ""')[0] == 'msgid "one"\nmsgstr "eno"'
    assert translate("a.po", "")[0] == ""


def test_an_obsolete_entry_without_a_text_is_no_header():
    obsolete = '#~ msgid ""\n#~ msgstr "old"\n'
    text, _ = translate("a.po", f'msgid "one"\nmsgstr ""\n\n{obsolete}')
    assert text == f'msgid "one"\nmsgstr "eno"\n\n{obsolete}'


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="gettext is not installed")
def test_gettext_finds_nothing_wrong(tmp_path):
    path = tmp_path / "a.po"
    path.write_text(translate("a.po", CATALOG)[0], encoding="utf-8")
    command = ["msgfmt", "--check-format", "--check-domain", "-o", "/dev/null", path]
    subprocess.run(command, check=True)
