"""What differs between formats of graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from regard.hub.export.graph import Graph


class GraphFormat(NamedTuple):
    """A format of graphs, and what runs them.

    Args:
        name: Its name in titles.
        suffix: End of the names of files.
        write: Traces a graph, and writes the file with facts by name.
        open_session: Opens the file; ``run`` of a session takes names of outputs, and arrays by the
            names of inputs.
        failures: Returns what a session raises where it cannot compute a graph.
        session: Module of `usage` that opens the file without regard.
        package: What that module needs, as pip names it.
        description: How the file is written, in a sentence or two.
    """

    name: str
    suffix: str
    write: Callable[[Graph, Path, Mapping[str, str]], None]
    open_session: Callable[[Path], Any]
    failures: Callable[[], tuple[type[Exception], ...]]
    session: str
    package: str
    description: str
