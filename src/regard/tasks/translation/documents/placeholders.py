"""What a translation must keep as it is: placeholders of programs, markup, addresses.

A text and its translation have the same placeholders, each as often. Those whose meaning depends
on their order, such as ``%s`` and tags, are in the same order, too: ``%s of %d`` as ``%d von %s``
would end a program in C.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

_BRACES = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"  # also messages of ICU, three levels deep
_PRINTF = r"(?:hh|h|ll|l|q|j|z|t|L|I64)?[diouxXeEfFgGaAcCsSpnmr@]"
# Lengths have limits, so that a long text with beginnings and no ends is searched in linear time.
_PATTERNS = {
    "address": r"""(?:https?|ftp|file|mailto|git|ssh|irc):(?://)?[^\s<>"'`]*[\w/\#=&]""",
    "e-mail": r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+",
    "markup": r"</?[A-Za-z][^<>]*>|<!--.{0,5000}?-->|<[\d:.]+>",
    "entity": r"&(?:[A-Za-z]\w*|\#\d+|\#[xX][0-9A-Fa-f]+);",
    "template": rf"\{{\{{.{{0,500}}?\}}\}}|\{{%.{{0,500}}?%\}}|[$\#%]?{_BRACES}",
    "variable": r"\$[A-Za-z_]\w*|%[A-Z_]{2,}%|%L?\d{1,2}(?![\d$]|[.,]\d)\b|%<\w+>",
    "name in printf": r"%\([^()]*\)[-+\#0 ]*\d*(?:\.\d+)?[diouxXeEfFgGcrsa]?",
    "printf": rf"%%|%(?:\d+\$)?[-+\#0']*(?:\d+|\*)?(?:\.(?:\d+|\*))?{_PRINTF}",
    "escape": r"""\\[A-Za-z0\\"']""",
    "option": r"(?<![\w-])--[A-Za-z][\w-]*(?:=\w+)?|(?<![\w-])-[A-Za-z](?![\w-])",
    "path": r"(?<![\w/.<])(?:~|\.{1,2})?/[\w.+-]*[\w+-](?:/[\w.+-]*\w)*/?",
    "identifier": r"\b[A-Za-z]\w*_\w+\b|\b[A-Za-z_][\w.]{0,100}\(\)",
    "icon": r"[\ue000-\uf8ff\U000f0000-\U0010fffd]+",  # of a font: for private use
    "lone sign": r"[%{}]",  # which would begin a placeholder where a program reads the text
}
_PRINTF_WITH_SPACE = rf"%(?:\d+\$)?[-+\#0' ]*(?:\d+|\*)?(?:\.(?:\d+|\*))?{_PRINTF}"
_UNORDERED = re.compile(r"%\d+\$.*|%[(<{].*|%L?\d{1,2}|%.*%|\{[^:!].*\}|[$#].*", re.DOTALL)
_LABEL_ACCELERATOR = re.compile(r"(?<![\w&])&(?=[^\W_])(?!\w+;)|(?<=[^\W_])&(?=[a-z])(?!\w+;)")
_GTK_ACCELERATOR = re.compile(r"(?<!\w)_[^\W_]|(?<!\w)[A-Z][a-z]*_[a-z]+(?!\w)")


@dataclass(frozen=True)
class Syntax:
    """What counts as a placeholder in the texts of a format.

    Args:
        extra: Patterns of the format, which go before the general ones.
        ordered: Pattern of those of them whose order counts.
        is_printf: Whether texts are known to be formats of printf, where ``% d`` is one as well.
        has_accelerators: Whether ``&File`` or ``_File`` has a mark before the key of a menu.
    """

    extra: str = ""
    ordered: str = ""
    is_printf: bool = False
    has_accelerators: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches one placeholder."""
        patterns = [self.extra] if self.extra else []
        patterns += [_PRINTF_WITH_SPACE] if self.is_printf else []
        return re.compile("|".join([*patterns, *_PATTERNS.values()]), re.DOTALL)

    def find(self, text: str) -> list[str]:
        """Return the placeholders of a text, in order."""
        return [match[0] for match in self.pattern.finditer(text)]

    def split(self, text: str) -> list[str]:
        """Return the parts of a text: between placeholders at even indices, these at odd ones."""
        parts, end = [], 0
        for match in self.pattern.finditer(text):
            parts += [text[end : match.start()], match[0]]
            end = match.end()
        return [*parts, text[end:]]

    def covers(self, text: str) -> Callable[[int], bool]:
        """Return what says of an index of a text whether it is within a placeholder."""
        spans = [match.span() for match in self.pattern.finditer(text)]
        return lambda index: any(start <= index < end for start, end in spans)

    def has_words(self, text: str) -> bool:
        """Return whether a text has letters outside of placeholders."""
        return any(char.isalpha() for part in self.split(text)[::2] for char in part)

    def is_unharmed(self, source: str, output: str) -> bool:
        """Return whether an output has the placeholders of its source.

        >>> Syntax().is_unharmed("%(n)d files in {0}", "{0} hat %(n)d Dateien")
        True
        >>> Syntax().is_unharmed("%s of %d", "%d von %s")
        False
        """
        left, right = self.find(source), self.find(output)
        return sorted(left) == sorted(right) and self._in_order(left) == self._in_order(right)

    def _in_order(self, placeholders: list[str]) -> list[list[str]]:
        """Return the placeholders whose order counts: of printf and braces, and of markup."""
        own = [p for p in placeholders if self.ordered and re.fullmatch(self.ordered, p)]
        markup = [p for p in placeholders if p.startswith("<")]
        positional = [p for p in placeholders if p[0] in "%{" and not _UNORDERED.fullmatch(p)]
        return [own, markup, positional]


def find_accelerator(text: str) -> int | None:
    """Return where the mark of an accelerator is in a text; None where there is none, or several.

    >>> find_accelerator("&Save"), find_accelerator("E_xit"), find_accelerator("R&D, Q&A")
    (0, 1, None)
    >>> find_accelerator("the file_name")
    """
    if text.count("&") == 1 and (match := _LABEL_ACCELERATOR.search(text)):
        return match.start()
    if text.count("_") != 1:
        return None
    return text.index("_") if _GTK_ACCELERATOR.search(text) else None


def put_accelerator(text: str, mark: str, key: str, taken: Callable[[int], bool]) -> str:
    """Put the mark of an accelerator into a translation.

    Args:
        text: The translation.
        mark: ``&`` or ``_``.
        key: The letter that it is before in the source.
        taken: Says of an index whether it is within a placeholder.

    Returns:
        The text with the mark before the same letter, else before its first one; a text without
        Latin letters has it at the end with the letter, as programs in Asian languages do.

    >>> put_accelerator("Speichern", "&", "s", lambda index: False)
    '&Speichern'
    >>> put_accelerator("保存", "_", "s", lambda index: False)
    '保存(_S)'
    """
    free = [i for i, char in enumerate(text) if char.isalnum() and not taken(i)]
    same = [i for i in free if text[i].casefold() == key.casefold()]
    starts = [i for i in same if i == 0 or not text[i - 1].isalnum()]
    letters = [i for i in free if text[i] < "\u2e80" and text[i].isalpha()]
    if not same and not letters:
        return f"{text}({mark}{key.upper()})"
    index = (starts or same or letters)[0]
    return f"{text[:index]}{mark}{text[index:]}"
