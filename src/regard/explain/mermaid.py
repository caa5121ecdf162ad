"""A flowchart in Mermaid's text format (https://mermaid.js.org/syntax/flowchart.html).

Every label is in double quotes, and characters with a meaning in Mermaid or HTML are written as
entity codes, so that any text may be a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

Shape = Literal["box", "round", "circle"]
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
    """Nodes, subgraphs and edges, in the order in which they are added."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._edges: list[str] = []
        self._depth = 1
        self._num_nodes = 0
        self._num_groups = 0

    def node(self, lines: Sequence[str], shape: Shape = "box") -> str:
        """Add a node.

        Args:
            lines: Of its label.
            shape: Its outline.

        Returns:
            Its name, for edges.
        """
        name = f"n{self._num_nodes}"
        self._num_nodes += 1
        before, after = _BRACKETS[shape]
        self._add(f"{name}{before}{_quote(lines)}{after}")
        return name

    @contextmanager
    def group(self, lines: Sequence[str]) -> Iterator[None]:
        """Put the nodes that are added within into a frame, with a title of these lines."""
        self._add(f"subgraph g{self._num_groups}[{_quote(lines)}]")
        self._num_groups += 1
        self._depth += 1
        yield
        self._depth -= 1
        self._add("end")

    def edge(
        self, start: str, end: str, label: str = "", line: Literal["-->", "-.->", "-.-"] = "-->"
    ) -> None:
        """Connect two nodes: by an arrow, a dotted arrow, or a dotted line without a direction."""
        text = f"|{_quote([label])}|" if label else ""
        self._edges.append(f"{_INDENT}{start} {line}{text} {end}")

    def text(self) -> str:
        """Write the chart, edges last: an edge within a frame would add its nodes to the frame."""
        return "\n".join([*_HEADER, *self._lines, *self._edges]) + "\n"

    def _add(self, line: str) -> None:
        self._lines.append(_INDENT * self._depth + line)


def _quote(lines: Sequence[str]) -> str:
    """Return the text of a label.

    >>> _quote(['say "a" & <b>', "next"])
    '"say #quot;a#quot; #amp; #lt;b#gt;<br/>next"'
    """
    return '"' + "<br/>".join(line.translate(_ENTITIES) for line in lines) + '"'
