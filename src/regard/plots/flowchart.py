"""A flowchart of boxes in columns: each column is read downwards, and arrows skip along its side.

A column has one box a row, in the order in which data passes them. An arrow to the next box is
straight. One that skips boxes, or goes back, runs in a lane at the outer side of its column, and
one to another column in a lane between the two; lanes are shared by arrows that do not overlap.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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

Shape = Literal["box", "round", "circle"]
Line = Literal["-->", "-.->", "-.-"]
"""An arrow, a dotted arrow, a dotted line without a direction."""

_TITLE, _FACT, _LABEL = 8.5, 7.5, 7.0  # sizes of fonts; these and all others in points
_ROW = 11.5  # of a line of text
_PAD_X, _PAD_Y = 10.0, 5.0  # around the text of a box
_GAP = 18.0  # between two boxes of a column
_FRAME_PAD = 9.0
_LANE = 12.0  # between two lanes
_NARROWEST, _WIDEST = 110.0, 320.0  # text of a box; what is longer is cut off
_CIRCLE = 16.0  # diameter
_MARGIN = 20.0
_CORNER = 4.0  # radius of the turn of an arrow
_HEAD = 4.5  # length of the head of an arrow
_BELOW_HEADER = 12.0  # room for the arrow into a frame, below its title
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


@dataclass(frozen=True)
class Node:
    """A box.

    Args:
        name: Its name, which edges use.
        lines: Lines of its text; the first is its title.
        shape: Its outline.
    """

    name: str
    lines: tuple[str, ...]
    shape: Shape = "box"


@dataclass(frozen=True)
class Frame:
    """A frame around boxes that follow each other.

    Args:
        lines: Lines of its title.
        nodes: The boxes, first to last.
    """

    lines: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Edge:
    """A connection of two boxes.

    Args:
        start: Name of the first.
        end: Name of the second.
        label: Its text; empty for none.
        line: Its kind.
    """

    start: str
    end: str
    label: str = ""
    line: Line = "-->"


Column = list[Node | Frame]
"""Boxes and frames, from the top."""


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
        _Chart(sheet, columns, edges).draw()


def flowchart_svg(columns: Sequence[Column], edges: Sequence[Edge]) -> str:
    """Return a flowchart as the text of an SVG file.

    Args:
        columns: One, or two next to each other.
        edges: Between their nodes.

    Raises:
        ConfigError: matplotlib is missing.
    """
    with drawn_page("svg") as (sheet, content):
        _Chart(sheet, columns, edges).draw()
    return content.getvalue().decode()


@dataclass(eq=False)
class _Box:
    """A node with its position, in points from the upper left corner of the page.

    Args:
        node: The node.
        column: Index of its column.
        row: Its index in the column, from 0.
        top: Top edge of the box.
        height: Height of the box.
        left: Left edge of the box.
        width: Width of the box.
        ports: Where arrows meet its left side (-1) and its right side (1): their other ends.
    """

    node: Node
    column: int
    row: int
    top: float
    height: float
    left: float = 0.0
    width: float = 0.0
    ports: dict[int, list[tuple[float, int]]] = field(default_factory=dict)

    @property
    def middle(self) -> float:
        """Distance of its middle from the left edge of the page."""
        return self.left + self.width / 2

    def put_in_column(self, left: float, width: float) -> None:
        """Put it into a column; a circle is as narrow as it is high."""
        self.width = _CIRCLE if self.node.shape == "circle" else width
        self.left = left + (width - self.width) / 2

    def side_x(self, direction: int) -> float:
        """Return the x of its left (-1) or right (1) side."""
        return self.left if direction < 0 else self.left + self.width

    def port(self, direction: int, number: int) -> float:
        """Return the y at which an edge meets a side, over which its edges are spread in order."""
        # With the far ones outside, no line to a lane crosses another lane on its way.
        order = [
            other
            for _, _, other in sorted(
                (top > self.top, -top, other) for top, other in self.ports[direction]
            )
        ]
        return self.top + self.height * (order.index(number) + 1) / (len(order) + 1)


@dataclass(eq=False)
class _Route:
    """An edge that does not run straight to the next box.

    Args:
        number: Index of the edge.
        edge: The edge.
        start: Its first box.
        end: Its second box.
        lane: Its lane, from 0, the nearest to the boxes.
    """

    number: int
    edge: Edge
    start: _Box
    end: _Box
    lane: int = 0

    @property
    def span(self) -> tuple[float, float]:
        """From where to where it runs, from the top of the page."""
        ends = [box.top + box.height / 2 for box in (self.start, self.end)]
        return min(ends), max(ends)


class _Chart:
    """The layout of a chart, and its drawing.

    Args:
        sheet: The page.
        columns: Columns of the chart; empty ones are left out.
        edges: Edges of the chart.
    """

    def __init__(self, sheet: Page, columns: Sequence[Column], edges: Sequence[Edge]) -> None:
        self.sheet, self.edges = sheet, edges
        self.columns = [column for column in columns if column]
        self.boxes: dict[str, _Box] = {}
        self.frames: list[tuple[Frame, int, float, float]] = []  # with column, top, bottom
        self.widths = [self._width(column) for column in self.columns]
        self.height = max((self._stack(*each) for each in enumerate(self.columns)), default=0.0)
        self.beside: list[list[_Route]] = [[] for _ in self.columns]
        self.between: list[_Route] = []
        self.straight: list[_Route] = []
        self._route()
        self._set_ports()

    def draw(self) -> None:
        """Draw frames, then edges, then boxes."""
        self._arrange_columns()
        canvas = self.sheet.canvas()
        for frame, column, top, bottom in self.frames:
            self._draw_frame(canvas, frame, column, top, bottom)
        for route in self.straight:
            self._draw_straight(canvas, route)
        for route in itertools.chain(*self.beside):
            self._draw_beside(canvas, route)
        for route in self.between:
            self._draw_between(canvas, route)
        for box in self.boxes.values():
            self._draw_box(canvas, box)

    # --- layout ---

    def _width(self, column: Column) -> float:
        """Return the width of the boxes of a column."""
        texts = (each for item in column for each in (item, *_nodes(item)))
        widths = [self._measure(*line) for each in texts for line in enumerate(each.lines)]
        return min(max(_NARROWEST, *widths), _WIDEST) + 2 * _PAD_X

    def _measure(self, number: int, line: str) -> float:
        size, weight = _font(number)
        return self.sheet.measure(self.sheet.text(line), size, weight=weight)

    def _stack(self, index: int, column: Column) -> float:
        """Place the boxes of a column below each other; return where it ends."""
        y, row = _MARGIN, 0
        for item in column:
            top = y
            if isinstance(item, Frame):
                y += len(item.lines) * _ROW + _PAD_Y + _BELOW_HEADER
            for node in _nodes(item):
                is_circle = node.shape == "circle"
                height = _CIRCLE if is_circle else len(node.lines) * _ROW + 2 * _PAD_Y
                self.boxes[node.name] = _Box(node, index, row, y, height)
                y, row = y + height + _GAP, row + 1
            if isinstance(item, Frame):
                bottom = y - _GAP + _FRAME_PAD
                self.frames.append((item, index, top, bottom))
                y = bottom + _GAP
        return y - _GAP

    def _route(self) -> None:
        """Decide which edges run straight, and the lanes of the others."""
        for number, edge in enumerate(self.edges):
            route = _Route(number, edge, self.boxes[edge.start], self.boxes[edge.end])
            if route.start.column != route.end.column:
                self.between.append(route)
            elif route.end.row == route.start.row + 1:
                self.straight.append(route)
            else:
                self.beside[route.start.column].append(route)
        for routes in self.beside:
            _assign_lanes(self._with_labels(routes))
        _assign_lanes(_trunks(self.between))

    def _set_ports(self) -> None:
        """Note at each box which edges meet which of its sides."""
        for route in itertools.chain(self.between, *self.beside):
            for box, other in ((route.start, route.end), (route.end, route.start)):
                direction = self._side(route, box)
                box.ports.setdefault(direction, []).append((other.top, route.number))

    def _side(self, route: _Route, box: _Box) -> int:
        """Return the side of a box at which a route meets it: left (-1) or right (1)."""
        if route.start.column != route.end.column:
            return 1 if box.column == 0 else -1
        return -1 if self._is_left(box.column) else 1

    def _is_left(self, column: int) -> bool:
        """Return whether the lanes of a column are on its left: the other side has the other."""
        return column == 0 and len(self.columns) > 1

    def _with_labels(self, routes: Sequence[_Route]) -> Iterator[tuple[list[_Route], float, float]]:
        """Yield routes with what they take of a lane: a turned label may be the longer part."""
        for route in routes:
            low, high = route.span
            length = self._label_width(route.edge) + 2 * _CORNER + 6
            extra = max(0.0, length - (high - low)) / 2
            yield [route], low - extra, high + extra

    def _label_width(self, edge: Edge) -> float:
        return self.sheet.measure(self.sheet.text(edge.label), _LABEL) if edge.label else 0.0

    def _own_lanes(self, column: int) -> int:
        """Return the number of lanes that the frames of a column hold: those of arrows within."""
        rows = [
            {self.boxes[node.name].row for node in frame.nodes}
            for frame, c, *_ in self.frames
            if c == column
        ]
        own = [
            route.lane + 1
            for route in self.beside[column]
            if any({route.start.row + 1, route.end.row} <= frame for frame in rows)
        ]
        return max(own, default=0)

    def _lane(self, column: int, lane: int) -> float:
        """Return the distance of a lane from the boxes of its column."""
        is_outside = lane >= self._own_lanes(column)
        return 12.0 + lane * _LANE + (_FRAME_PAD if is_outside else 0.0)

    def _boxes_of(self, column: int) -> list[_Box]:
        return [box for box in self.boxes.values() if box.column == column]

    def _around(self, column: int, lanes: float) -> tuple[float, float]:
        """Return the room left and right of the boxes of a column, with `lanes` on its own side."""
        return (lanes, _FRAME_PAD) if self._is_left(column) else (_FRAME_PAD, lanes)

    def _arrange_columns(self) -> None:
        """Place the columns next to each other, with their lanes, and set the size of the page."""
        x = _MARGIN
        for column, width in enumerate(self.widths):
            lanes = max((route.lane + 1 for route in self.beside[column]), default=0)
            before, after = self._around(
                column, max(_FRAME_PAD, self._lane(column, lanes)) if lanes else _FRAME_PAD
            )
            for box in self._boxes_of(column):
                box.put_in_column(x + before, width)
            x += before + width + after
            if self._is_left(column):
                self.channel = x + 10
                x = self.channel + self._channel_width()
        self.sheet.resize(x + _MARGIN, self.height + _MARGIN)

    def _channel_width(self) -> float:
        lanes = max((route.lane + 1 for route in self.between), default=0)
        labels = max((self._label_width(route.edge) for route in self.between), default=0.0)
        return max(30.0, lanes * _LANE + labels + 8)

    # --- drawing ---

    def _draw_frame(
        self, canvas: Axes, frame: Frame, column: int, top: float, bottom: float
    ) -> None:
        """Draw a frame, which holds the lanes of the arrows within, and its title."""
        from matplotlib.patches import FancyBboxPatch

        width, own = self.widths[column], self._own_lanes(column)
        left = self._boxes_of(column)[0].middle - width / 2
        lanes = 12.0 + (own - 1) * _LANE + 7 if own else _FRAME_PAD
        before, after = self._around(column, lanes)
        canvas.add_patch(
            FancyBboxPatch(
                (left - before, top),
                width + before + after,
                bottom - top,
                boxstyle="round,pad=0,rounding_size=6",
                facecolor=FRAME.light,
                edgecolor=GRID.light,
                linewidth=1,
            )
        )
        for number, line in enumerate(frame.lines):
            size, weight = _font(number)
            text = self.sheet.fit(line, width, size, weight=weight)
            point = left + width / 2, top + _PAD_Y + (number + 0.5) * _ROW
            # The arrow into the frame runs behind its title.
            behind = {"facecolor": FRAME.light, "edgecolor": "none", "pad": 2.5}
            canvas.text(
                *point,
                text,
                fontsize=size,
                fontweight=weight,
                color=(MUTED if number else INK).light,
                ha="center",
                va="center_baseline",
                bbox=behind,
                zorder=3,
            )

    def _draw_box(self, canvas: Axes, box: _Box) -> None:
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
            size, weight = _font(number)
            text = self.sheet.fit(line, _WIDEST, size, weight=weight)
            y = box.top + box.height * (number + 0.5) / len(box.node.lines)
            if box.node.shape == "box":
                y = box.top + _PAD_Y + (number + 0.5) * _ROW
            canvas.text(
                box.middle,
                y,
                text,
                fontsize=size,
                fontweight=weight,
                color=(MUTED if number else INK).light,
                ha="center",
                va="center_baseline",
                zorder=5,
            )

    def _draw_straight(self, canvas: Axes, route: _Route) -> None:
        x, top = route.start.middle, route.start.top + route.start.height
        self._draw_line(canvas, route.edge, [(x, top), (x, route.end.top)])
        self._draw_label(canvas, route.edge, x + 4, (top + route.end.top) / 2, "left")

    def _draw_beside(self, canvas: Axes, route: _Route) -> None:
        """Draw an edge along its column, with its label along the lane."""
        column = route.start.column
        direction = -1 if self._is_left(column) else 1
        left = route.start.middle - self.widths[column] / 2
        edge = left if direction < 0 else left + self.widths[column]
        x = edge + direction * self._lane(column, route.lane)
        y, end_y = (box.port(direction, route.number) for box in (route.start, route.end))
        ends = route.start.side_x(direction), route.end.side_x(direction)
        self._draw_line(canvas, route.edge, [(ends[0], y), (x, y), (x, end_y), (ends[1], end_y)])
        ground = FRAME if route.lane < self._own_lanes(column) else PAGE
        point = x, (y + end_y) / 2
        self._draw_label(canvas, route.edge, *point, "center", turn=90, ground=ground)

    def _draw_between(self, canvas: Axes, route: _Route) -> None:
        """Draw an edge from one column to the other, with its label where it reaches the right."""
        x = self.channel + route.lane * _LANE
        points = []
        for box in (route.start, route.end):
            direction = self._side(route, box)
            y = box.port(direction, route.number)
            points.append([(box.side_x(direction), y), (x, y)])
        self._draw_line(canvas, route.edge, [*points[0], *points[1][::-1]])
        y = max(points, key=lambda each: each[0][0])[0][1]
        right = self.channel + self._channel_width() - 4
        self._draw_label(canvas, route.edge, right, y - 5, "right")

    def _draw_label(
        self,
        canvas: Axes,
        edge: Edge,
        x: float,
        y: float,
        align: Literal["left", "center", "right"],
        *,
        turn: int = 0,
        ground: Color = PAGE,
    ) -> None:
        """Draw the label of an edge; a turned one interrupts its line."""
        if edge.label:
            behind = {"facecolor": ground.light, "edgecolor": "none", "pad": 1.0}
            canvas.text(
                x,
                y,
                self.sheet.text(edge.label),
                fontsize=_LABEL,
                color=MUTED.light,
                ha=align,
                va="center" if turn else "center_baseline",
                rotation=turn,
                bbox=behind if turn else None,
                zorder=3,
            )

    def _draw_line(self, canvas: Axes, edge: Edge, points: Sequence[tuple[float, float]]) -> None:
        """Draw the line of an edge with round corners, and its head where it has a direction."""
        from matplotlib.patches import PathPatch, Polygon
        from matplotlib.path import Path as Outline

        color, dashes = _LINES[edge.line]
        if edge.line == "-->" and self.boxes[edge.start].column != self.boxes[edge.end].column:
            color = ACCENT
        (x, y), (tip_x, tip_y) = points[-2:]
        length = math.hypot(tip_x - x, tip_y - y) or 1.0
        ahead = (tip_x - x) / length, (tip_y - y) / length
        if edge.line != "-.-":
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


def _font(number: int) -> tuple[float, str]:
    """Return size and weight of a line of text: the first is a title."""
    return (_FACT, "normal") if number else (_TITLE, "bold")


def _nodes(item: Node | Frame) -> list[Node]:
    return [item] if isinstance(item, Node) else item.nodes


def _trunks(routes: Sequence[_Route]) -> Iterator[tuple[list[_Route], float, float]]:
    """Yield the routes from each node together: they share a lane; with what they take of it."""
    groups: dict[tuple[str, Line], list[_Route]] = {}
    for route in routes:
        groups.setdefault((route.edge.start, route.edge.line), []).append(route)
    for group in groups.values():
        spans = [route.span for route in group]
        yield group, min(low for low, _ in spans), max(high for _, high in spans)


def _assign_lanes(groups: Iterable[tuple[list[_Route], float, float]]) -> None:
    """Give each group the first lane in which it overlaps no other; short ones are first."""
    lanes: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for routes, low, high in sorted(groups, key=lambda group: group[2] - group[1]):
        lane = next(
            lane
            for lane in itertools.count()
            if not any(start < high and low < end for start, end in lanes[lane])
        )
        lanes[lane].append((low, high))
        for route in routes:
            route.lane = lane


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the point where the turn at a corner begins, on the way to another point."""
    length = math.hypot(other[0] - corner[0], other[1] - corner[1]) or 1.0
    part = min(_CORNER, length / 2) / length
    return corner[0] + part * (other[0] - corner[0]), corner[1] + part * (other[1] - corner[1])
