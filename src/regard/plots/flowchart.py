"""A flowchart of boxes in columns, with frames around some of them and arrows between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regard.plots.flowchart_layout import (
    CORNER,
    LABEL_SIZE,
    WIDEST,
    Box,
    Column,
    Edge,
    FrameBox,
    Layout,
    Line,
    Point,
    Route,
    Shape,
    font_of_line,
)
from regard.plots.style import (
    ACCENT,
    FRAME,
    GRID,
    INK,
    MUTED,
    PAGE,
    SECOND,
    WIDE_BAND,
    Color,
    Page,
    drawn_page,
    page,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEAD = 4.5  # length of the head of an arrow, in points
_COLORS: dict[Shape, tuple[Color, Color]] = {
    "box": (PAGE, MUTED),
    "round": (WIDE_BAND, ACCENT),
    "circle": (PAGE, MUTED),
}
"""Face and edge of a box by its shape."""
_DOTS = (0, (3, 2.5))
_LINES: dict[Line, tuple[Color, str | tuple[int, tuple[float, float]]]] = {
    "-->": (MUTED, "solid"),
    "-.->": (SECOND, _DOTS),
    "-.-": (MUTED, _DOTS),
}
"""Color and dashes of an edge by its kind."""


def draw_flowchart(columns: Sequence[Column], edges: Sequence[Edge], path: str | Path) -> None:
    """Draw a flowchart.

    Args:
        columns: One, or two next to each other.
        edges: Between their nodes.
        path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

    Raises:
        ConfigError: The file cannot be written, or matplotlib is missing.
        ResourceError: The disk is full, or fails.
    """
    with page(path) as sheet:
        _draw(sheet, Layout(sheet, columns, edges))


def flowchart_svg(columns: Sequence[Column], edges: Sequence[Edge]) -> str:
    """Return a flowchart as the text of an SVG file.

    Args:
        columns: One, or two next to each other.
        edges: Between their nodes.

    Raises:
        ConfigError: matplotlib is missing.
    """
    with drawn_page("svg") as (sheet, content):
        _draw(sheet, Layout(sheet, columns, edges))
    return content.getvalue().decode()


def _draw(sheet: Page, layout: Layout) -> None:
    """Draw frames, then edges, then boxes."""
    sheet.resize(layout.width, layout.height)
    canvas = sheet.canvas()
    for frame in layout.frames:
        _draw_frame(canvas, sheet, frame)
    for route in layout.routes:
        _draw_line(canvas, route)
        if route.edge.label:
            _draw_label(canvas, sheet, route)
    for box in layout.boxes.values():
        _draw_box(canvas, sheet, box)


def _draw_frame(canvas: Axes, sheet: Page, frame: FrameBox) -> None:
    """Draw a frame and its title."""
    from matplotlib.patches import FancyBboxPatch

    canvas.add_patch(
        FancyBboxPatch(
            (frame.left, frame.top),
            frame.width,
            frame.bottom - frame.top,
            boxstyle="round,pad=0,rounding_size=6",
            facecolor=FRAME.light,
            edgecolor=GRID.light,
            linewidth=1,
        )
    )
    # The arrow into the frame runs behind its title.
    behind = {"facecolor": FRAME.light, "edgecolor": "none", "pad": 2.5}
    for number, line in enumerate(frame.frame.lines):
        size, weight = font_of_line(number)
        canvas.text(
            frame.middle,
            frame.text_y(number),
            sheet.fit(line, frame.text_width, size, weight=weight),
            fontsize=size,
            fontweight=weight,
            color=(MUTED if number else INK).light,
            ha="center",
            va="center_baseline",
            bbox=behind,
            zorder=3,
        )


def _draw_box(canvas: Axes, sheet: Page, box: Box) -> None:
    """Draw a box with its text."""
    from matplotlib.patches import Circle, FancyBboxPatch

    rounding = box.height / 2 if box.node.shape == "round" else 3
    outline = FancyBboxPatch(
        (box.left, box.top),
        box.width,
        box.height,
        boxstyle=f"round,pad=0,rounding_size={rounding}",
    )
    if box.node.shape == "circle":
        outline = Circle((box.middle, box.top + box.height / 2), box.height / 2)
    face, edge = _COLORS[box.node.shape]
    outline.set(facecolor=face.light, edgecolor=edge.light, linewidth=0.9, zorder=4)
    canvas.add_patch(outline)
    for number, line in enumerate(box.node.lines):
        size, weight = font_of_line(number)
        canvas.text(
            box.middle,
            box.text_y(number),
            sheet.fit(line, WIDEST, size, weight=weight),
            fontsize=size,
            fontweight=weight,
            color=(MUTED if number else INK).light,
            ha="center",
            va="center_baseline",
            zorder=5,
        )


def _draw_label(canvas: Axes, sheet: Page, route: Route) -> None:
    """Draw the label of an edge; a turned one interrupts its line."""
    label = route.label
    ground = FRAME if label.is_in_frame else PAGE
    behind = {"facecolor": ground.light, "edgecolor": "none", "pad": 1.0}
    canvas.text(
        *label.point,
        sheet.text(route.edge.label),
        fontsize=LABEL_SIZE,
        color=MUTED.light,
        ha=label.align,
        va="center" if label.is_turned else "center_baseline",
        rotation=90 if label.is_turned else 0,
        bbox=behind if label.is_turned else None,
        zorder=3,
    )


def _draw_line(canvas: Axes, route: Route) -> None:
    """Draw the line of an edge with round corners, and its head where it has a direction."""
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Outline

    points = route.points
    color, dashes = _LINES[route.edge.line]
    if route.edge.line == "-->" and route.changes_column:
        color = ACCENT
    (x, y), (tip_x, tip_y) = points[-2:]
    length = math.hypot(tip_x - x, tip_y - y) or 1.0
    ahead = (tip_x - x) / length, (tip_y - y) / length
    if route.edge.line != "-.-":
        base = tip_x - _HEAD * ahead[0], tip_y - _HEAD * ahead[1]
        half = 0.45 * _HEAD
        corners = [
            (tip_x, tip_y),
            (base[0] - half * ahead[1], base[1] + half * ahead[0]),
            (base[0] + half * ahead[1], base[1] - half * ahead[0]),
        ]
        canvas.add_patch(Polygon(corners, facecolor=color.light, linewidth=0, zorder=2))
        points = [*points[:-1], base]
    outline, codes = [points[0]], [Outline.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        outline += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
    outline, codes = [*outline, points[-1]], [*codes, Outline.LINETO]
    canvas.add_patch(
        PathPatch(
            Outline(outline, codes),
            facecolor="none",
            edgecolor=color.light,
            linewidth=1,
            linestyle=dashes,
            zorder=2,
        )
    )


def _towards(corner: Point, other: Point) -> Point:
    """Return the point where the turn at a corner begins, on the way to another point."""
    length = math.hypot(other[0] - corner[0], other[1] - corner[1]) or 1.0
    part = min(CORNER, length / 2) / length
    return corner[0] + part * (other[0] - corner[0]), corner[1] + part * (other[1] - corner[1])
