"""Words of a text in any script, by which summaries and answers are compared with references.

A word is a run of letters, marks and numbers in lower case. Where a script puts no spaces between
words, each character with its marks is one. On text of a-z and 0-9 alone these are the words of the
package ``rouge-score``, which drops all other characters: "été" is one word here, and "t" there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import islice

UNSPACED = (
    r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    r"\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Ranges of scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana, Han."""

_ASCII_WORD = re.compile("[a-z0-9]+")
_ASCII_WORD_IN_ANY_CASE = re.compile("[A-Za-z0-9]+")
_NUM_CODES = 0x20000  # beyond are Han and variants
_VARIANTS = range(0xFE00, 0xFE10)  # marks that choose the form of a character, as of an emoji


def split_words(text: str) -> list[str]:
    """Return the words of a text, in lower case; punctuation and symbols belong to none.

    >>> split_words("The file_name isn't 3.5")
    ['the', 'file', 'name', 'isn', 't', '3', '5']
    >>> split_words("L'été, 打开 हिन्दी")
    ['l', 'été', '打', '开', 'हिन्दी']
    """
    text = text.lower()
    if text.isascii():
        return _ASCII_WORD.findall(text)
    return word_pattern().findall(unicodedata.normalize("NFC", text))


def first_words(text: str, count: int) -> str:
    """Return the beginning of a text, as far as the end of a word; `count` is 1 or more.

    >>> first_words("One, two; three.", 2)
    'One, two'
    """
    end = max((end for _, end in islice(word_spans(text), count)), default=0)
    return text[:end].strip()


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """Return an iterator over where each word of a text begins and ends, as it is written.

    >>> text = "E_IO: Read(2)."
    >>> [text[start:end] for start, end in word_spans(text)]
    ['E', 'IO', 'Read', '2']
    """
    pattern = _ASCII_WORD_IN_ANY_CASE if text.isascii() else word_pattern()
    return (match.span() for match in pattern.finditer(text))


@cache
def word_pattern() -> re.Pattern[str]:
    """Return the pattern of a word: Python's own class of word characters has no marks."""
    codes = (code for code in range(_NUM_CODES) if code not in _VARIANTS)
    marks = "".join(char for char in map(chr, codes) if unicodedata.category(char) in ("Mn", "Mc"))
    marks = f"[{re.escape(marks)}]"
    return re.compile(
        rf"[{UNSPACED}](?<=[^\W_]){marks}*|[^\W_{UNSPACED}](?:[^\W_{UNSPACED}]|{marks})*"
    )
