"""A flowchart in Mermaid's text format (https://mermaid.js.org/syntax/flowchart.html).

Every label is in double quotes, and characters with a meaning in Mermaid or HTML are written as
entity codes, so that any text may be a label.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from regard.plots.flowchart_layout import Column, Edge, Frame, Line, Node, Shape

_BRACKETS: dict[Shape, tuple[str, str]] = {
    "box": ("[", "]"),
    "round": ("([", "])"),
    "circle": ("((", "))"),
}
_ENTITIES = str.maketrans({"#": "#35;", '"': "#quot;", "&": "#amp;", "<": "#lt;", ">": "#gt;"})
_INDENT = "    "
_HEADER = (
    # Titles of frames would be hidden by the nodes within.
    '%%{init: {"flowchart": {"subGraphTitleMargin": {"top": 6, "bottom": 30}}}}%%',
    "flowchart TB",
)


class Flowchart:
    """Nodes, frames and edges, in the order in which they are added."""

    def __init__(self) -> None:
        self.columns: list[Column] = [[]]
        self.edges: list[Edge] = []
        self._num_nodes = 0
        self._frame: Frame | None = None

    def start_column(self) -> None:
        """Put the nodes that follow next to those before, where columns are drawn."""
        self.columns.append([])

    def node(self, lines: Sequence[str], shape: Shape = "box") -> str:
        """Add a node.

        Args:
            lines: Lines of its label.
            shape: Its outline.

        Returns:
            Its name, for edges.
        """
        node = Node(f"n{self._num_nodes}", tuple(lines), shape)
        self._num_nodes += 1
        (self.columns[-1] if self._frame is None else self._frame.nodes).append(node)
        return node.name

    @contextmanager
    def group(self, lines: Sequence[str]) -> Iterator[None]:
        """Put the nodes that are added within into a frame, with a title of these lines."""
        self._frame = Frame(tuple(lines))
        self.columns[-1].append(self._frame)
        yield
        self._frame = None

    def edge(self, start: str, end: str, label: str = "", line: Line = "-->") -> None:
        """Connect two nodes: by an arrow, a dotted arrow, or a dotted line without a direction."""
        self.edges.append(Edge(start, end, label, line))

    def text(self) -> str:
        """Write the chart, edges last: an edge within a frame would add its nodes to the frame."""
        lines, num_frames = [*_HEADER], 0
        for item in itertools.chain(*self.columns):
            if isinstance(item, Node):
                lines.append(_INDENT + _node_text(item))
                continue
            lines.append(f"{_INDENT}subgraph g{num_frames}[{_quote(item.lines)}]")
            lines += [2 * _INDENT + _node_text(node) for node in item.nodes]
            lines.append(f"{_INDENT}end")
            num_frames += 1
        for edge in self.edges:
            text = f"|{_quote([edge.label])}|" if edge.label else ""
            lines.append(f"{_INDENT}{edge.start} {edge.line}{text} {edge.end}")
        return "\n".join(lines) + "\n"


def _node_text(node: Node) -> str:
    before, after = _BRACKETS[node.shape]
    return f"{node.name}{before}{_quote(node.lines)}{after}"


def _quote(lines: Sequence[str]) -> str:
    """Return the text of a label.

    >>> _quote(['say "a" & <b>', "next"])
    '"say #quot;a#quot; #amp; #lt;b#gt;<br/>next"'
    """
    return '"' + "<br/>".join(line.translate(_ENTITIES) for line in lines) + '"'
