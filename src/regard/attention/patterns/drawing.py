"""Pictures of attention patterns: a grid of queries (rows) by keys (columns), as text or SVG.

A cell is one character: ``■`` attends, ``·`` does not, ``□`` may be chosen by score, and a digit
attends through the average of that coarse level (hierarchical attention).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal
from xml.sax.saxutils import escape

from torch import Tensor

from regard.errors import ConfigError

ALLOWED, FORBIDDEN, CANDIDATE = "■", "·", "□"

Format = Literal["text", "svg"]

_TICK = 5  # rows and columns between two numbers
_CELL = 10  # pixels
_MARGIN = 28  # pixels left of and above the grid, for the numbers


def grid(allowed: Tensor, *, mark: str = ALLOWED) -> list[str]:
    """Write a boolean matrix as rows of characters.

    Args:
        allowed: ``[queries, keys]``, True where the pair is drawn.
        mark: The character of a True cell.

    Returns:
        One string a query, one character a key.
    """
    return ["".join(mark if cell else FORBIDDEN for cell in row) for row in allowed.tolist()]


def draw(rows: Sequence[str], *, title: str, format: Format) -> str:  # noqa: A002
    """Draw a grid with numbered rows and columns.

    Args:
        rows: One string a query, one character a key (see the module).
        title: What the picture shows; only SVG has it.
        format: ``"text"`` or ``"svg"``.

    Returns:
        Lines of text without a final newline, or a complete SVG document.

    Raises:
        ConfigError: `format` is another.

    >>> print(draw(["■·", "■■"], title="causal", format="text"))
      0
    0 ■·
      ■■
    """
    if format == "text":
        return _text(rows)
    if format == "svg":
        return _svg(rows, title)
    raise ConfigError(f'show(format="{format}"): the format must be "text" or "svg".')


def _text(rows: Sequence[str]) -> str:
    width = len(str(len(rows) - 1))
    columns = range(0, len(rows[0]), _TICK)
    lines = [(" " * (width + 1) + "".join(f"{tick:<{_TICK}}" for tick in columns)).rstrip()]
    for number, row in enumerate(rows):
        tick = str(number) if number % _TICK == 0 else ""
        lines.append(f"{tick:>{width}} {row}")
    return "\n".join(lines)


def _svg(rows: Sequence[str], title: str) -> str:
    width, height = len(rows[0]) * _CELL, len(rows) * _CELL
    full_width, full_height = width + _MARGIN + 1, height + _MARGIN + 1
    style = 'font-family="sans-serif" font-size="9" fill="#333"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full_width} {full_height}" '
        f'width="{full_width}" height="{full_height}" role="img">',
        f"<title>{escape(title)}: queries down, keys across</title>",
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{width}" height="{height}" '
        'fill="#fff" stroke="#999"/>',
    ]
    for number, row in enumerate(rows):
        column = 0
        for mark, run in groupby(row):  # one rectangle for each run of equal cells
            length = len(list(run))
            if mark != FORBIDDEN:
                parts.append(
                    f'<rect x="{_MARGIN + column * _CELL}" y="{_MARGIN + number * _CELL}" '
                    f'width="{length * _CELL}" height="{_CELL}" {_fill(mark)}/>'
                )
            column += length
    for tick in range(0, len(rows[0]), _TICK):
        x, y = _MARGIN + tick * _CELL, _MARGIN - 4
        parts.append(f'<text x="{x}" y="{y}" {style}>{tick}</text>')
    for tick in range(0, len(rows), _TICK):
        x, y = _MARGIN - 4, _MARGIN + tick * _CELL + 8
        parts.append(f'<text x="{x}" y="{y}" text-anchor="end" {style}>{tick}</text>')
    return "\n".join([*parts, "</svg>"])


def _fill(mark: str) -> str:
    if mark == ALLOWED:
        return 'fill="#1f5fa8"'
    opacity = 0.25 if mark == CANDIDATE else max(0.8 - 0.12 * int(mark), 0.1)
    return f'fill="#1f5fa8" fill-opacity="{opacity:.2f}"'
