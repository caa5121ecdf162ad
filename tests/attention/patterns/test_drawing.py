"""Pictures of patterns: the exact text, and SVG that parses."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.attention.patterns import Causal, Full, Global, Hierarchical, Local, Strided, TopK
from regard.errors import ConfigError

PATTERNS = [Full(), Causal() & Local(3, 0), Strided(2) | Global([1]), TopK(3), Hierarchical(2)]
SVG = "{http://www.w3.org/2000/svg}"


def test_a_mask_is_drawn_one_character_a_pair():
    assert (Causal() & Local(2, 0)).show(7) == "\n".join(
        [
            "  0    5",
            "0 ■······",
            "  ■■·····",
            "  ■■■····",
            "  ·■■■···",
            "  ··■■■··",
            "5 ···■■■·",
            "  ····■■■",
        ]
    )


def test_hierarchical_attention_is_drawn_with_its_levels():
    assert Hierarchical(2, causal=True).show(9).splitlines()[-1] == "  222211■■■"


def test_top_k_is_drawn_with_the_pairs_to_choose_from():
    assert TopK(2, causal=True).show(2) == "  0\n0 □·\n  □□"


@given(pattern=st.sampled_from(PATTERNS), size=st.integers(1, 30))
def test_a_picture_has_a_line_a_query_and_a_character_a_key(pattern, size):
    margin = len(str(size - 1)) + 1
    lines = pattern.show(size).splitlines()
    assert len(lines) == size + 1
    assert all(len(line) == margin + size for line in lines[1:])


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_an_svg_is_valid_and_has_a_title(pattern):
    root = ElementTree.fromstring(pattern.show(12, format="svg"))
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title") == f"{pattern!r}: queries down, keys across"


def test_an_svg_covers_the_allowed_cells_and_no_others():
    root = ElementTree.fromstring(Local(1, 1).show(6, format="svg"))
    frame, *cells = root.findall(f"{SVG}rect")
    assert frame.get("width") == frame.get("height") == "60"
    assert sum(int(cell.attrib["width"]) for cell in cells) == 10 * 16


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError) as raised:
        Full().show(format="png")  # type: ignore[arg-type]
    assert str(raised.value) == 'show(format="png"): the format must be "text" or "svg".'


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_a_picture_without_cells_is_refused(pattern):
    with pytest.raises(ConfigError) as raised:
        pattern.show(0)
    assert str(raised.value) == "show(0): the number of positions must be 1 or more."
