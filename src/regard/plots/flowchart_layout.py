"""Where boxes and arrows of a flowchart are: columns that are read downwards, lanes next to them.

A column has one box a row, in the order in which data passes them. An arrow to the next box is
straight. One that skips boxes, or goes back, runs in a lane at the outer side of its column, and
one to another column in a lane between the two; lanes are shared by arrows that do not overlap.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from regard.plots.style import Page

Shape = Literal["box", "round", "circle"]
Line = Literal["-->", "-.->", "-.-"]
"""An arrow, a dotted arrow, a dotted line without a direction."""
Point = tuple[float, float]
"""Distances from the left and from the upper edge of the page, in points."""

LABEL_SIZE = 8.25  # of the font; these and all others in points
WIDEST = 320.0  # text of a box; what is longer is cut off
CORNER = 4.0  # radius of the turn of an arrow
_TITLE_SIZE, _FACT_SIZE = 9.0, 8.25
_ROW = 12.0  # of a line of text
_PAD_X, _PAD_Y = 10.0, 5.0  # around the text of a box
_GAP = 18.0  # between two boxes of a column
_FRAME_PAD = 9.0
_FIRST_LANE, _LANE = 12.0, 12.0  # from a box to the first lane, and from one lane to the next
_NARROWEST = 110.0  # text of a box
_CIRCLE = 16.0  # diameter
_MARGIN = 20.0
_BELOW_HEADER = 12.0  # room for the arrow into a frame, below its title


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


@dataclass(eq=False)
class Box:
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

    def text_y(self, number: int) -> float:
        """Return the y of the middle of a line of its text, by its number from 0."""
        if self.node.shape == "box":
            return self.top + _PAD_Y + (number + 0.5) * _ROW
        return self.top + self.height * (number + 0.5) / len(self.node.lines)

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
class FrameBox:
    """A frame with its position, in points from the upper left corner of the page.

    Args:
        frame: The frame.
        column: Index of its column.
        top: Top edge.
        bottom: Bottom edge.
        left: Left edge.
        width: Width, with the lanes of the arrows within.
        middle: Distance of the middle of its boxes from the left edge of the page.
        text_width: Width of its boxes, which its title has.
    """

    frame: Frame
    column: int
    top: float
    bottom: float
    left: float = 0.0
    width: float = 0.0
    middle: float = 0.0
    text_width: float = 0.0

    def text_y(self, number: int) -> float:
        """Return the y of the middle of a line of its title, by its number from 0."""
        return self.top + _PAD_Y + (number + 0.5) * _ROW


class Label(NamedTuple):
    """Where the text of an edge is.

    Args:
        point: Its left end, middle or right end.
        align: Which of them.
        is_turned: Whether it is read upwards.
        is_in_frame: Whether it is within a frame.
    """

    point: Point
    align: Literal["left", "center", "right"]
    is_turned: bool = False
    is_in_frame: bool = False


@dataclass(eq=False)
class Route:
    """An edge on its way from box to box.

    Args:
        number: Index of the edge.
        edge: The edge.
        start: Its first box.
        end: Its second box.
        lane: Its lane, from 0, the nearest to the boxes.

    Attributes:
        points: Its ends, and its corners between them.
        label: Where its text is.
    """

    number: int
    edge: Edge
    start: Box
    end: Box
    lane: int = 0
    points: list[Point] = field(init=False)
    label: Label = field(init=False)

    @property
    def span(self) -> tuple[float, float]:
        """From where to where it runs, from the top of the page."""
        ends = [box.top + box.height / 2 for box in (self.start, self.end)]
        return min(ends), max(ends)

    @property
    def changes_column(self) -> bool:
        """Whether its boxes are in different columns."""
        return self.start.column != self.end.column


class Layout:
    """The boxes, frames and arrows of a flowchart with their positions on a page.

    Args:
        sheet: A page, by whose fonts texts are measured.
        columns: Columns of the chart; empty ones are left out.
        edges: Edges of the chart.
    """

    def __init__(self, sheet: Page, columns: Sequence[Column], edges: Sequence[Edge]) -> None:
        self._sheet = sheet
        self._columns = [column for column in columns if column]
        self.boxes: dict[str, Box] = {}
        self.frames: list[FrameBox] = []
        self._widths = [self._width(column) for column in self._columns]
        bottom = max((self._stack(*each) for each in enumerate(self._columns)), default=0.0)
        self.straight: list[Route] = []
        self.beside: list[list[Route]] = [[] for _ in self._columns]
        self.between: list[Route] = []
        self._route(edges)
        self._set_ports()
        self.width, self.height = self._arrange_columns() + _MARGIN, bottom + _MARGIN
        for frame in self.frames:
            self._widen(frame)
        for route in self.straight:
            self._run_straight(route)
        for route in itertools.chain(*self.beside):
            self._run_beside(route)
        for route in self.between:
            self._run_between(route)

    @property
    def routes(self) -> Iterator[Route]:
        """All edges: to the next box, next to a column, and between two."""
        return itertools.chain(self.straight, *self.beside, self.between)

    def _width(self, column: Column) -> float:
        """Return the width of the boxes of a column."""
        texts = (each for item in column for each in (item, *_nodes(item)))
        widths = [self._measure(*line) for each in texts for line in enumerate(each.lines)]
        return min(max(_NARROWEST, *widths), WIDEST) + 2 * _PAD_X

    def _measure(self, number: int, line: str) -> float:
        size, weight = font_of_line(number)
        return self._sheet.measure(self._sheet.text(line), size, weight=weight)

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
                self.boxes[node.name] = Box(node, index, row, y, height)
                y, row = y + height + _GAP, row + 1
            if isinstance(item, Frame):
                bottom = y - _GAP + _FRAME_PAD
                self.frames.append(FrameBox(item, index, top, bottom))
                y = bottom + _GAP
        return y - _GAP

    def _route(self, edges: Sequence[Edge]) -> None:
        """Decide which edges run straight, and the lanes of the others."""
        for number, edge in enumerate(edges):
            route = Route(number, edge, self.boxes[edge.start], self.boxes[edge.end])
            if route.changes_column:
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

    def _side(self, route: Route, box: Box) -> int:
        """Return the side of a box at which a route meets it: left (-1) or right (1)."""
        if route.changes_column:
            return 1 if box.column == 0 else -1
        return -1 if self._is_left(box.column) else 1

    def _is_left(self, column: int) -> bool:
        """Return whether the lanes of a column are on its left: the other side has the other."""
        return column == 0 and len(self._columns) > 1

    def _with_labels(self, routes: Sequence[Route]) -> Iterator[tuple[list[Route], float, float]]:
        """Yield routes with what they take of a lane: a turned label may be the longer part."""
        for route in routes:
            low, high = route.span
            length = self._label_width(route.edge) + 2 * CORNER + 6
            extra = max(0.0, length - (high - low)) / 2
            yield [route], low - extra, high + extra

    def _label_width(self, edge: Edge) -> float:
        if not edge.label:
            return 0.0
        return self._sheet.measure(self._sheet.text(edge.label), LABEL_SIZE)

    def _own_lanes(self, column: int) -> int:
        """Return the number of lanes that the frames of a column hold: those of arrows within."""
        rows = [
            {self.boxes[node.name].row for node in frame.frame.nodes}
            for frame in self.frames
            if frame.column == column
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
        return _FIRST_LANE + lane * _LANE + (_FRAME_PAD if is_outside else 0.0)

    def _boxes_of(self, column: int) -> list[Box]:
        return [box for box in self.boxes.values() if box.column == column]

    def _around(self, column: int, lanes: float) -> tuple[float, float]:
        """Return the room left and right of the boxes of a column, with `lanes` on its own side."""
        return (lanes, _FRAME_PAD) if self._is_left(column) else (_FRAME_PAD, lanes)

    def _arrange_columns(self) -> float:
        """Place the columns next to each other, with their lanes; return the right edge."""
        x = _MARGIN
        for column, width in enumerate(self._widths):
            lanes = max((route.lane + 1 for route in self.beside[column]), default=0)
            before, after = self._around(
                column, max(_FRAME_PAD, self._lane(column, lanes)) if lanes else _FRAME_PAD
            )
            for box in self._boxes_of(column):
                box.put_in_column(x + before, width)
            x += before + width + after
            if self._is_left(column):
                self._channel = x + 10
                x = self._channel + self._channel_width()
        return x

    def _channel_width(self) -> float:
        """Return the width of the lanes between the columns, with their labels."""
        lanes = max((route.lane + 1 for route in self.between), default=0)
        labels = max((self._label_width(route.edge) for route in self.between), default=0.0)
        return max(30.0, lanes * _LANE + labels + 8)

    def _widen(self, frame: FrameBox) -> None:
        """Set the sides of a frame, which holds the lanes of the arrows within."""
        width, own = self._widths[frame.column], self._own_lanes(frame.column)
        frame.text_width = width
        frame.middle = self._boxes_of(frame.column)[0].middle
        lanes = _FIRST_LANE + (own - 1) * _LANE + 7 if own else _FRAME_PAD
        before, after = self._around(frame.column, lanes)
        frame.left = frame.middle - width / 2 - before
        frame.width = width + before + after

    def _run_straight(self, route: Route) -> None:
        """Set the points of an edge to the next box, with its label to the right."""
        x, top = route.start.middle, route.start.top + route.start.height
        route.points = [(x, top), (x, route.end.top)]
        route.label = Label((x + 4, (top + route.end.top) / 2), "left")

    def _run_beside(self, route: Route) -> None:
        """Set the points of an edge along its column, with its label along the lane."""
        column = route.start.column
        direction = -1 if self._is_left(column) else 1
        left = route.start.middle - self._widths[column] / 2
        edge = left if direction < 0 else left + self._widths[column]
        x = edge + direction * self._lane(column, route.lane)
        y, end_y = (box.port(direction, route.number) for box in (route.start, route.end))
        ends = route.start.side_x(direction), route.end.side_x(direction)
        route.points = [(ends[0], y), (x, y), (x, end_y), (ends[1], end_y)]
        is_in_frame = route.lane < self._own_lanes(column)
        middle = x, (y + end_y) / 2
        route.label = Label(middle, "center", is_turned=True, is_in_frame=is_in_frame)

    def _run_between(self, route: Route) -> None:
        """Set the points of an edge between columns, with its label at the right one."""
        x = self._channel + route.lane * _LANE
        halves: list[list[Point]] = []
        for box in (route.start, route.end):
            direction = self._side(route, box)
            y = box.port(direction, route.number)
            halves.append([(box.side_x(direction), y), (x, y)])
        route.points = [*halves[0], *halves[1][::-1]]
        _, y = max(half[0] for half in halves)
        route.label = Label((self._channel + self._channel_width() - 4, y - 5), "right")


def font_of_line(number: int) -> tuple[float, str]:
    """Return size and weight of a line of text, by its number from 0: the first is a title."""
    return (_FACT_SIZE, "normal") if number else (_TITLE_SIZE, "bold")


def _nodes(item: Node | Frame) -> list[Node]:
    return [item] if isinstance(item, Node) else item.nodes


def _trunks(routes: Sequence[Route]) -> Iterator[tuple[list[Route], float, float]]:
    """Yield the routes from each node together: they share a lane; with what they take of it."""
    groups: dict[tuple[str, Line], list[Route]] = {}
    for route in routes:
        groups.setdefault((route.edge.start, route.edge.line), []).append(route)
    for group in groups.values():
        spans = [route.span for route in group]
        yield group, min(low for low, _ in spans), max(high for _, high in spans)


def _assign_lanes(groups: Iterable[tuple[list[Route], float, float]]) -> None:
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
