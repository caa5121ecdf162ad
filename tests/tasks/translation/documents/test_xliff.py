"""XLIFF: units without a translation are filled, markup stays, and damage is refused."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from tests.tasks.translation.documents.stub_model import translate

from regard.errors import DataError

FIRST = """<?xml version="1.0" encoding="UTF-8"?>
<!-- a comment -->
<xliff version='1.2' xmlns="urn:oasis:names:tc:xliff:document:1.2" xmlns:x="http://x.org">
  <file original="a.html" source-language="en" datatype="html" >
    <body>
      <trans-unit id="1" x:mine="yes">
        <source>red <g id="1"> old cat </g> &lt; dog</source>
        <note>red</note>
      </trans-unit>
      <trans-unit id="2"><source>red</source><target state="new"/></trans-unit>
      <trans-unit id="3"><source>red</source><target>rot</target></trans-unit>
      <trans-unit id="4" translate="no"><source>red</source></trans-unit>
      <trans-unit id="5"><source>red</source><target state="new">red</target>
        <alt-trans><target>rosa</target></alt-trans></trans-unit>
    </body>
  </file>
</xliff>
"""
SECOND = """<xl:xliff version="2.0" srcLang="en" xmlns:xl="urn:oasis:names:tc:xliff:document:2.0">
<xl:file id="f"><xl:unit id="u">
  <xl:segment id="s" state="initial">
    <xl:source>red <xl:pc id="1"> old </xl:pc> <xl:ph id="2"/></xl:source>
  </xl:segment>
  <xl:segment state="reviewed"><xl:source>cat</xl:source><xl:target>Katze</xl:target></xl:segment>
</xl:unit></xl:file></xl:xliff>
"""


def test_units_of_version_1_without_a_translation_are_filled_and_all_else_stays():
    text, _ = translate("a.xlf", FIRST, fuzzy=True)
    state = 'state="needs-review-translation" state-qualifier="leveraged-mt"'
    expected = FIRST.replace('datatype="html" >', 'datatype="html" target-language="de">').replace(
        "&lt; dog</source>",
        f'&lt; dog</source>\n        <target {state}>der <g id="1"> dlo tac </g> &lt; god</target>',
    )
    expected = expected.replace('<target state="new"/>', f"<target {state}>der</target>")
    expected = expected.replace('<target state="new">red</target>', f"<target {state}>der</target>")
    assert text == expected
    assert ElementTree.fromstring(text) is not None


def test_segments_of_version_2_are_filled_with_their_prefix_and_state():
    text, _ = translate("a.xliff", SECOND)
    expected = SECOND.replace('"document:2.0">', '"document:2.0" trgLang="de">').replace(
        'state="initial"', 'state="translated"'
    )
    expected = expected.replace(
        '<xl:ph id="2"/></xl:source>',
        '<xl:ph id="2"/></xl:source>\n    '
        '<xl:target>der <xl:pc id="1"> dlo </xl:pc> <xl:ph id="2"/></xl:target>',
    ).replace(':2.0">', ':2.0" trgLang="de">')
    assert text == expected


@pytest.mark.parametrize(
    "xml",
    [
        '<ph id="1">&lt;br&gt;</ph> red <x id="2"/>',
        'red <bpt id="1">&lt;b red></bpt>cat<ept id="1">&lt;/b></ept>',
        '<mrk mtype="protected">red cat</mrk> dog',
        "red &lt;b&gt;cat&lt;/b&gt; <g id='1'>a &amp;amp; b</g> &#13; &quot;dog&quot;",
        "<![CDATA[red <b>]]> cat",
        "AT&amp;T &amp;File &lt;a '<x id=\"1\"/>' &gt;",
    ],
)
def test_what_is_written_is_the_same_xml_where_the_model_copies(xml):
    content = FIRST.replace('red <g id="1"> old cat </g> &lt; dog', xml)
    text, _ = translate("a.xlf", content, lambda texts: [[t] for t in texts])
    root, space = ElementTree.fromstring(text), "{urn:oasis:names:tc:xliff:document:1.2}"
    unit = next(root.iter(f"{space}trans-unit"))
    source, target = unit.find(f"{space}source"), unit.find(f"{space}target")
    if target is not None:
        assert "".join(target.itertext()) == "".join(source.itertext())
        assert [e.tag for e in target.iter()][1:] == [e.tag for e in source.iter()][1:]
    assert text.replace("&quot;", '"').count(xml.replace("&quot;", '"')) == (target is not None) + 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (("</body>", ""), r"a\.xlf:16: not well-formed XML \(mismatched tag\)"),
        ((FIRST, "<html/>"), r"a\.xlf:1: <xliff> was expected, not <html>"),
        ((FIRST, ""), r"a\.xlf:1: not well-formed XML"),
        (("<source>red</source>", ""), r"a\.xlf:10: <trans-unit> has no <source>"),
        (
            ("<!-- a comment -->", '<!DOCTYPE xliff [<!ENTITY red "cat">]>'),
            r"a\.xlf:2: declares the entity red",
        ),
    ],
)
def test_damaged_files_and_entities_are_refused_with_their_line(damage, message):
    with pytest.raises(DataError, match=message):
        translate("a.xlf", FIRST.replace(*damage))


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1"])
def test_the_encoding_of_a_file_stays(encoding):
    content = FIRST.replace("UTF-8", encoding).replace("rot<", "röt<").encode(encoding)
    text, _ = translate("a.xlf", content)
    assert "<target>röt</target>" in text
    assert ">der</target>" in text
