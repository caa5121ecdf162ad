"""Parts of charts: texts, lines, grids, tables, in units of which a chart's width has 440.

Texts are texts, so that the reader's fonts draw them in every script.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from regard.explain.report.markup import Child, Markup, tag
from regard.plots.style import SCALE

WIDTH = 440.0
NUM_COLORS = len(SCALE)


class Chart(NamedTuple):
    """A chart and the same figures as a table.

    Args:
        svg: The picture.
        table: For those who do not see it, or want its numbers.
    """

    svg: Markup
    table: Markup

    def figure(self, title: str, *notes: Child) -> Markup:
        """Return both as a figure with a title and notes."""
        return tag(
            "figure",
            tag("h3", title),
            tag("div", self.svg, class_="scroll", tabindex="0"),
            *(tag("p", note, class_="note") for note in notes if note),
            tag("details", tag("summary", "table"), self.table, class_="twin"),
        )


def table(headers: Sequence[Child], rows: Sequence[Sequence[Child]], caption: str) -> Markup:
    """Return a table; the first cell of a row is its header."""
    head = tag("tr", *(tag("th", header, scope="col") for header in headers))
    body = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    return tag(
        "div",
        tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body)),
        class_="scroll",
        tabindex="0",
    )


def number_text(value: float | None) -> str:
    """Return a figure as people read it; a dash where there is none.

    >>> number_text(54.234), number_text(3.3), number_text(0.00741), number_text(12345.6)
    ('54.2', '3.30', '0.00741', '12,346')
    >>> number_text(0), number_text(None)
    ('0', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:#.3g}" if abs(value) >= 1e-4 else f"{value:.3g}"


def draw_svg(parts: Sequence[Markup], height: float, label: str, width: float = WIDTH) -> Markup:
    """Return a chart of a width and a height, with a label for those who do not see it.

    One that is wider than a panel keeps its size, so that its texts can be read, and is scrolled.
    """
    size = {"width": f"{width:.0f}", "height": f"{height:.0f}"} if width > WIDTH else {}
    return tag(
        "svg",
        *parts,
        class_="chart",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        **size,
        role="img",
        aria_label=label,
    )


def broken_line(points: Sequence[tuple[float, float]], kind: str) -> list[Markup]:
    """Draw the lines through points, with gaps where a height is not finite.

    A point between two gaps is a dot.

    Args:
        points: From left to right.
        kind: Class of the style sheet.

    Returns:
        Lines and dots.
    """
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [
        polyline(run, class_=kind)
        if len(run) > 1
        else tag("circle", cx=run[0][0], cy=run[0][1], r=1.5, class_=kind)
        for run in runs
        if run
    ]


def value_grid(
    left: float, width: float, ticks: Sequence[float], y: Callable[[float], float]
) -> list[Markup]:
    """Return the lines of an axis of values with their labels."""
    parts = []
    for tick in ticks:
        at, text = y(tick), f"{tick:.3g}" if abs(tick) < 1000 else f"{tick:,.0f}"
        parts.append(line_between(left, at, left + width, at, class_="grid" if tick else "axis"))
        parts.append(text_at(left - 6, at + 4, text, class_="end small muted"))
    return parts


def text_at(x: float, y: float, text: str, **attributes: object) -> Markup:
    """Return a text with its base line at a point."""
    return tag("text", text, x=float(x), y=float(y), **attributes)


def line_between(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> Markup:
    """Return the line between two points."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), **attributes)


def polyline(points: Sequence[tuple[float, float]], **attributes: object) -> Markup:
    """Return the lines from each point to the next."""
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), **attributes)


def shorten_middle(text: str, most: int) -> str:
    """Return a text of at most `most` characters, with its end, where names of layers differ.

    >>> shorten_middle("encoder.embedding.positions", 17), shorten_middle("encoder.norm", 17)
    ('encoder…positions', 'encoder.norm')
    """
    if len(text) <= most:
        return text
    num_last = (most + 1) // 2
    return f"{text[: most - 1 - num_last]}…{text[-num_last:]}"
