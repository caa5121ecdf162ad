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
        title: What the picture shows; only SVG tells it.
        format: ``"text"`` or ``"svg"``.

    Returns:
        Lines of text without a final newline, or a complete SVG document.

    Raises:
        ConfigError: `format` is neither.

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


def check_num_positions(num_positions: int) -> None:
    """Refuse a picture without cells.

    Raises:
        ConfigError: `num_positions` is below 1.
    """
    if num_positions < 1:
        raise ConfigError(f"show({num_positions}): the number of positions must be 1 or more.")


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
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full_width} {full_height}" '
        f'width="{full_width}" height="{full_height}" role="img">',
        f"<title>{escape(title)}: queries down, keys across</title>",
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{width}" height="{height}" '
        'fill="#fff" stroke="#999"/>',
        *(_svg_row(number, row) for number, row in enumerate(rows)),
        *_svg_ticks(len(rows), len(rows[0])),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def _svg_row(number: int, row: str) -> str:
    """One rectangle for each run of equal cells."""
    rects = []
    column = 0
    for mark, run in groupby(row):
        length = len(list(run))
        if mark != FORBIDDEN:
            rects.append(
                f'<rect x="{_MARGIN + column * _CELL}" y="{_MARGIN + number * _CELL}" '
                f'width="{length * _CELL}" height="{_CELL}" {_fill(mark)}/>'
            )
        column += length
    return "\n".join(rects)


def _fill(mark: str) -> str:
    if mark == ALLOWED:
        return 'fill="#1f5fa8"'
    if mark == CANDIDATE:
        return 'fill="#1f5fa8" fill-opacity="0.25"'
    return f'fill="#1f5fa8" fill-opacity="{max(0.8 - 0.12 * int(mark), 0.1):.2f}"'


def _svg_ticks(num_rows: int, num_columns: int) -> list[str]:
    style = 'font-family="sans-serif" font-size="9" fill="#333"'
    across = [
        f'<text x="{_MARGIN + tick * _CELL}" y="{_MARGIN - 4}" {style}>{tick}</text>'
        for tick in range(0, num_columns, _TICK)
    ]
    down = [
        f'<text x="{_MARGIN - 4}" y="{_MARGIN + tick * _CELL + 8}" text-anchor="end" {style}>'
        f"{tick}</text>"
        for tick in range(0, num_rows, _TICK)
    ]
    return across + down
