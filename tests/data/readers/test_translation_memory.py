"""Translation memories and XLIFF as training data: which texts of which languages are read."""

import pytest

from regard.cli.wording import error_text
from regard.data.readers.source import open_source
from regard.data.readers.table_inspection import inspect_pairs
from regard.data.readers.tables import read_pairs
from regard.errors import DataError
from regard.setup.config import DataConfig
from regard.tasks import guess_task
from regard.tasks.translation.data import read_pairs_of

CODES = (
    'Click <bpt i="1">&lt;b&gt;</bpt>here<ept i="1">&lt;/b&gt;</ept><ph><sub>no</sub>{{0}}</ph>, '
    "<hi>{}</hi>\n  &amp; go"
)


def memory(*units, source="en-US"):
    """Return a TMX file of units, each of texts by language, one unit a line from line 3."""
    rows = "\n".join(
        "<tu>"
        + "".join(f'<tuv xml:lang="{tag}"><seg>{text}</seg></tuv>' for tag, text in unit.items())
        + "</tu>"
        for unit in units
    )
    head = f'<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx><header srclang="{source}"/><body>\n'
    return f"{head}{rows}\n</body></tmx>"


@pytest.fixture
def opened(tmp_path):
    """Returns a source of a file with some content."""

    def open_content(content, name="m.tmx", encoding="utf-8"):
        path = tmp_path / name
        path.write_text(content, encoding=encoding)
        return open_source(path)

    return open_content


def pairs_of(source, **arguments):
    """Return the pairs of a file."""
    pairs = read_pairs(source, **arguments)
    return list(zip(pairs.sources, pairs.targets, strict=True))


def test_units_are_pairs_in_the_order_of_the_source_language(opened):
    source = opened(memory({"de-DE": "Hallo", "en-US": "Hello"}, {"en-GB": "Cat", "de": "Katze"}))
    assert pairs_of(source) == [("Hello", "Hallo"), ("Cat", "Katze")]
    assert read_pairs(source).lines == [3, 4]
    assert inspect_pairs(source, "pairs").text == "pairs, columns en, de (TMX)"
    assert guess_task(source) == "translation"


def test_codes_within_texts_are_left_out_and_counted(opened):
    source = opened(memory({"en": CODES.format("you"), "de": CODES.format("du")}))
    assert pairs_of(source) == [("Click here, you & go", "Click here, du & go")]
    assert "without 6 inline codes" in inspect_pairs(source, "pairs").text


def test_two_languages_of_many_are_those_that_are_named(opened):
    units = [{"en": f"one {n}", "de": f"eins {n}", "fr": f"un {n}"} for n in range(9)]
    source = opened(memory(*units[1:], {"en": "two", "fr": "deux"}))
    assert pairs_of(source, columns=("fr", "de"))[0] == ("un 1", "eins 1")
    with pytest.raises(DataError) as raised:
        read_pairs(source)
    assert "columns seen: en, de, fr" in error_text(raised.value).lower()
    pairs = read_pairs_of(source, DataConfig(languages="en-fr"))
    assert (pairs.sources[-1], pairs.targets[-1]) == ("two", "deux")
    with pytest.raises(DataError, match=r'no column "es".*Columns seen: en, de, fr'):
        read_pairs_of(source, DataConfig(languages="en-es"))


def test_two_regions_of_a_language_in_one_unit_are_two_languages(opened):
    source = opened(memory({"EN_us": "color", "en-GB": "colour"}))
    assert inspect_pairs(source, "pairs").columns == ("en-US", "en-GB")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_memory_in_unicode_is_known_by_its_first_element(opened, encoding):
    content = memory({"en": "fine", "de": "schön"})
    assert pairs_of(opened(content, "memory", encoding)) == [("fine", "schön")]


UNITS = {
    "1.2": """<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
<file source-language="en-US" target-language="de-DE"><body>
<trans-unit><source>One <g id="1">cat</g><x id="2"/></source><target>Eine <ph>c</ph>Katze</target>
<alt-trans><source>no</source><target>nein</target></alt-trans></trans-unit>
<trans-unit><source>New</source><target state="needs-translation">New</target></trans-unit>
<trans-unit><source>Empty</source></trans-unit></body></file></xliff>""",
    "2.1": """<xliff version="2.1" srcLang="en" trgLang="de"
xmlns="urn:oasis:names:tc:xliff:document:2.0"><file id="f"><unit id="1">
<notes><note>no</note></notes>
<segment state="final"><source>One <pc id="1">cat</pc></source><target>Eine Katze</target></segment>
<segment state="initial"><source>New</source><target>New</target></segment>
<ignorable><source>no</source><target>nein</target></ignorable>
<segment><source>Empty</source></segment></unit></file></xliff>""",
}


@pytest.mark.parametrize("version", UNITS)
def test_translated_units_of_xliff_are_pairs(opened, version):
    source = opened(UNITS[version], "a.xlf")
    assert pairs_of(source) == [("One cat", "Eine Katze"), ("Empty", "")]
    assert "without 1 unit whose state" in inspect_pairs(source, "pairs").text


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("<tmx><body><tu></body></tmx>", "m.tmx:1: not well-formed XML (mismatched tag)."),
        ("<tmx><tu><tuv><seg>a</seg></tuv></tu></tmx>", "m.tmx:1: <tuv> has no xml:lang"),
        ("<tmx><body/></tmx>", "m.tmx: no unit of TMX has a text."),
        ('<!DOCTYPE tmx [\n<!ENTITY a "b"> ]><tmx/>', "named as a translation memory (TMX)"),
    ],
)
def test_what_is_no_memory_is_refused(opened, content, cause):
    with pytest.raises(DataError) as raised:
        guess_task(opened(content))
    assert cause in str(raised.value)
