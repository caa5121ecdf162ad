"""How a sentence begins and ends, and its capitals: what a translation takes from its source.

Tools for translators check these (``msgfmt --check``, ``pofilter``), and models are loose with
them: in a list of labels some would end with a full stop.
"""

from __future__ import annotations

import re

from regard.tasks.translation.documents.placeholders import Syntax

_LONGEST_ACRONYM = 5
_ENDINGS = {
    ".": ".。।",
    ":": ":：",
    ";": ";；",
    "!": "!！",
    "?": "?？؟",
}
"""Signs that end a sentence in other scripts, by those that end its source."""
_END = re.compile(r"(?:\.{3}|[.…:;!?。।：；！？؟])$")
_ABBREVIATED = re.compile(r"(?:^|[\s.(])\w{1,4}\.$")


def is_all_capitals(text: str, syntax: Syntax) -> bool:
    """Return whether the words of a text are capitals, and not an acronym."""
    words = " ".join(syntax.split(text)[::2]).split()
    letters = "".join(char for word in words for char in word if char.isalpha())
    if letters != letters.upper() or letters == letters.lower():
        return False
    return len(letters) > _LONGEST_ACRONYM


def as_sentence(text: str, syntax: Syntax) -> str:
    """Return a text of capitals as a model knows sentences: small letters after the first.

    >>> as_sentence("FILE %S NOT FOUND", Syntax())
    'File %S not found'
    """
    parts = syntax.split(text)
    parts[::2] = [part.lower() for part in parts[::2]]
    return _with_capital("".join(parts), syntax)


def as_capitals(text: str, syntax: Syntax) -> str:
    """Return a text with capitals, but for its placeholders."""
    parts = syntax.split(text)
    parts[::2] = [part.upper() for part in parts[::2]]
    return "".join(parts)


def match_wording(source: str, output: str, syntax: Syntax) -> str:
    """Return an output that begins and ends as its source does.

    >>> match_wording("Saving...", "speichern", Syntax())
    'Speichern...'
    >>> match_wording("Save", "Sichern.", Syntax())
    'Sichern'
    """
    output = _match_end(source, output.strip())
    starts_with_letter = source[0].isalpha() and output[:1].isalpha()
    return _with_capital(output, syntax) if starts_with_letter and source[0].isupper() else output


def _match_end(source: str, output: str) -> str:
    """Return an output with the sign at its end that its source has there."""
    sign, written = _END.search(source), _END.search(output)
    if sign is None:
        if written is None or _ABBREVIATED.search(output):
            return output
        return output[: written.start()].rstrip()
    if written is None:
        return output + sign[0] if output[-1:].isalnum() else output
    if written[0] == sign[0] or written[0] in _ENDINGS.get(sign[0], ""):
        return output
    return output[: written.start()].rstrip() + sign[0]


def _with_capital(text: str, syntax: Syntax) -> str:
    """Return a text whose first letter is a capital, unless that is in a placeholder."""
    index = next((i for i, char in enumerate(text) if char.isalpha()), None)
    if index is None or syntax.covers(text)(index):
        return text
    return text[:index] + text[index].upper() + text[index + 1 :]
