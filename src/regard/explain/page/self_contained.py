"""One HTML file that needs nothing else: its styles, its modules and its data are in it.

The policy in its head forbids every request, except to its own service where it is served, and runs
no script but the page's own, which it names by hash (https://www.w3.org/TR/CSP3/). Data is JSON in
which no ``<`` is left, so that no text of a reader's can end its element; the page shows text as
text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import msgspec

from regard.plots import style

Json = dict[str, object] | list[object] | msgspec.Struct

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([\w.]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const)) (\w+)", re.MULTILINE)
_REMARKS = re.compile(r"^ *//.*\n|^ */\*[\s\S]*?\*/\n|^ +|^\n", re.MULTILINE)
_FIELD = re.compile(r"\{\{(\w+)\}\}")
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def html_file(
    *,
    title: str,
    styles: Sequence[str],
    modules: Sequence[str],
    payload: Json,
    text: str,
    asks_service: bool = False,
) -> str:
    """Return a page as one file.

    Args:
        title: Title of the window; any text.
        styles: Names of style sheets in ``assets``, in order.
        modules: Names of JavaScript modules in ``assets``, each after those that it imports.
        payload: What the modules read from the element ``payload``.
        text: Lines that a reader sees where no script runs, as in a preview of mail.
        asks_service: Whether the page sends requests to the service that it comes from.
    """
    css = "\n".join([_palette(), *map(_read_code, styles)])
    script = "\n".join(["const modules = {};", *map(_inline_module, modules)])
    content = msgspec.json.encode(payload).decode()
    connections = "connect-src 'self'; " if asks_service else ""
    fields = {
        "policy": (
            f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(css)}'; "
            f"{connections}img-src data: blob:; base-uri 'none'; form-action 'none'"
        ),
        "title": html.escape(title),
        "css": css,
        "text": html.escape(text),
        "payload": "".join(_ESCAPES.get(char, char) for char in content),
        "script": script,
    }
    return _FIELD.sub(lambda match: fields[match[1]], read_asset("page.html"))


def static_file(*, title: str, styles: Sequence[str], body: str) -> str:
    """Return a page without scripts as one file.

    Args:
        title: Title of the window; any text.
        styles: Names of style sheets in ``assets``, in order.
        body: HTML, in which texts are escaped.
    """
    css = "\n".join([_palette(), *map(_read_code, styles)])
    fields = {
        "policy": (
            f"default-src 'none'; style-src '{_hash(css)}'; img-src data:; base-uri 'none'; "
            "form-action 'none'"
        ),
        "title": html.escape(title),
        "css": css,
        "body": body,
    }
    return _FIELD.sub(lambda match: fields[match[1]], read_asset("static_page.html"))


@cache
def read_asset(name: str) -> str:
    """Return a file of the page that is part of the package."""
    return files("regard.explain.page").joinpath("assets", name).read_text(encoding="utf-8")


def _read_code(name: str) -> str:
    """Return a module or a style sheet without comments, indents and empty lines.

    They stay in the package: they are a quarter of the text.
    """
    return _REMARKS.sub("", read_asset(name))


def _inline_module(name: str) -> str:
    """Return a module as a function of its own scope, which keeps what it exports by its name.

    A page that is opened from disk has no address that one module could import another from.
    """
    text = _read_code(name)
    exports = ", ".join(match[2] for match in _EXPORT.finditer(text))
    text = _IMPORT.sub(r'const \1 = modules["\2"];', text)
    text = _EXPORT.sub(r"\1 \2", text)
    return f'modules["{name}"] = (() => {{\n{text}return {{ {exports} }};\n}})();'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _palette() -> str:
    """Return the colors of all pictures as variables of CSS, light and dark."""
    colors = {
        "page": style.PAGE,
        "ink": style.INK,
        "muted": style.MUTED,
        "grid": style.GRID,
        "frame": style.FRAME,
        "accent": style.ACCENT,
        "band": style.BAND,
        "wide-band": style.WIDE_BAND,
        "second": style.SECOND,
        "dark-text": style.DARK_TEXT,
        "light-text": style.LIGHT_TEXT,
        **{f"scale-{number}": color for number, color in enumerate(style.SCALE)},
    }
    light = "".join(f"--{name}:{color.light};" for name, color in colors.items())
    dark = "".join(f"--{name}:{color.dark};" for name, color in colors.items())
    return (
        f":root{{color-scheme:light dark;{light}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )
