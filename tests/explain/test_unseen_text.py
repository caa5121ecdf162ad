"""Tokens of which a reader would see nothing."""

import pytest

from regard.explain.unseen_text import name_unseen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u200b", "U+200B"),
        ("\U000e0041\ufe0f", "U+E0041 U+FE0F"),
        (" \u3000", "U+0020 U+3000"),
        ("\x1b", "U+001B"),
        ("a\u200b", "a\u200b"),
        ("\u0301", "\u0301"),
        ("", ""),
    ],
)
def test_characters_are_named_by_their_numbers_where_none_is_seen(text, expected):
    assert name_unseen(text) == expected
