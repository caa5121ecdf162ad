"""HTML and SVG as text: elements are built by a function that escapes every text in them.

A text of the data can therefore not become an element, whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_EMPTY = {"br", "meta", "link", "circle", "img", "line", "path", "polygon", "polyline", "rect"}
_REPLACEMENTS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


Child = str | Markup | Iterable["Child"] | None


def escape(text: str) -> Markup:
    """Return a text in the form in which HTML has it; what HTML cannot have is replaced.

    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    if isinstance(text, Markup):
        return text
    text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return Markup("".join(_REPLACEMENTS.get(char, char) for char in text))


def tag(name: str, *children: Child, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: Name of the element.
        children: Texts, which are escaped, and elements; None is left out.
        attributes: By name; a trailing underscore is dropped and others become hyphens. None and
            False are left out, True has no value.

    >>> tag("p", "1 < 2", tag("br"), class_="note")
    '<p class="note">1 &lt; 2<br/></p>'
    """
    words = [name]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(attribute)
        elif value is not None and value is not False:
            words.append(f'{attribute}="{escape(_number(value))}"')
    if name in _EMPTY:
        return Markup(f"<{' '.join(words)}/>")  # without the slash SVG would not end it
    return Markup(f"<{' '.join(words)}>{''.join(_flatten(children))}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Return texts, which are escaped, and elements one after the other."""
    return Markup("".join(_flatten(children)))


def _flatten(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, str):
            yield escape(child)
        elif child is not None:
            yield from _flatten(child)


def _number(value: object) -> str:
    """Return a value as an attribute has it: two decimals of a pixel are enough."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
