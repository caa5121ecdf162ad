"""Tokens of which a reader would see nothing: zero-width and control characters, odd spaces.

A joiner, a byte order mark or a soft hyphen is a token like any other, and may matter to a model.
"""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    # Spaces, controls, noncharacters, and DerivedCoreProperties.txt of Unicode 15.1:
    # Default_Ignorable_Code_Point.
    r"[\s\x00-\x1f\x7f-\x9f\ufffe\uffff"
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)


def name_unseen(text: str) -> str:
    r"""Return a text, or the numbers of its characters where nothing of it would be seen.

    >>> name_unseen("\u200b"), name_unseen("\ufeff\x07"), name_unseen("a\u200b")
    ('U+200B', 'U+FEFF U+0007', 'a\u200b')
    """
    if not _UNSEEN.fullmatch(text):
        return text
    return " ".join(f"U+{ord(char):04X}" for char in text)
