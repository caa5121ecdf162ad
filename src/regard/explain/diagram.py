"""The architecture of a built model as a flowchart, drawn from its parts.

Every part is a node, or a frame around its parts; blocks that are equal and follow each other are
drawn once, with their number. Flows that the order of the parts does not show are declared by the
blocks (`Layer.steps`) and by the model (`Model.connections`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from regard.errors import ConfigError
from regard.explain.mermaid import Flowchart
from regard.explain.module_tree import Part, group_equal, group_name, list_parts, steps_of
from regard.layers.layer import EMBEDDINGS, INPUT, Layer
from regard.models import EncoderDecoder, Model
from regard.plots.flowchart import draw_flowchart, flowchart_svg

_LENGTH = 1  # the costs of parts are not drawn


def draw_diagram(model: Model, kind: Literal["mermaid", "svg"] = "mermaid") -> str:
    """Draw the architecture of a model as text.

    Args:
        model: Model of any family; it may be on the meta device.
        kind: Format of the text.

    Returns:
        A Mermaid flowchart, or an SVG file.

    Raises:
        ConfigError: The format is another, or an SVG file needs matplotlib, which is missing.
    """
    if kind not in ("mermaid", "svg"):
        raise ConfigError(f"kind must be mermaid or svg, not {kind!r}")
    chart = build_flowchart(model)
    return chart.text() if kind == "mermaid" else flowchart_svg(chart.columns, chart.edges)


def save_diagram(model: Model, path: str | Path) -> None:
    """Draw the architecture of a model as a picture, encoder and decoder next to each other.

    Args:
        model: Model of any family; it may be on the meta device.
        path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

    Raises:
        ConfigError: The file cannot be written, or matplotlib is missing.
        ResourceError: The disk is full, or fails.
    """
    chart = build_flowchart(model)
    draw_flowchart(chart.columns, chart.edges, path)


def build_flowchart(model: Model) -> Flowchart:
    """Return the parts of a model as nodes and frames, and the flow of data as edges."""
    artist = _Artist(model)
    artist.draw(list_parts(model, _LENGTH))
    return artist.chart


@dataclass
class _Artist:
    """Draws the parts of one model.

    Args:
        model: The model.
        chart: What is drawn so far.
        nodes: Node of each part, and of the output of each group of equal parts.
        ties: Pairs of parts that share weights, by name.
        memory: Nodes that attention over the source reads, with what they give.
        embeddings: Node of the embeddings on the side that is being drawn.
        states: Node of the last states, which a layer that `forward` does not run would read.
    """

    model: Model
    chart: Flowchart = field(default_factory=Flowchart)
    nodes: dict[str, str] = field(default_factory=dict)
    ties: list[tuple[str, str]] = field(default_factory=list)
    memory: list[tuple[str, str]] = field(default_factory=list)
    embeddings: str = ""
    states: str = ""

    def draw(self, parts: list[Part]) -> None:
        """Draw the source side where there is one, the other side, and what connects them."""
        source = [part for part in parts if part.is_source]
        if source and isinstance(self.model, EncoderDecoder):
            self._source(self.model, source)
        target = [part for part in parts if not part.is_source]
        end = self._side(target, "target tokens" if source else self.model.input_name)
        self.chart.edge(end, self.chart.node([self.model.output_name], "round"))
        self._connect()

    def _source(self, model: EncoderDecoder[Any], parts: list[Part]) -> None:
        """Draw the source side, and note what attention over it reads."""
        states = self._side(parts, "source tokens")
        nodes = {"states": states, EMBEDDINGS: self.embeddings}
        for label, names in model.source_memory.items():
            self.memory.append((self._add([nodes[name] for name in names]), label))
        self.chart.start_column()

    def _connect(self) -> None:
        """Draw what the order of the parts does not show: other flows, and shared weights."""
        for start, end, label, is_late in self.model.connections():
            self.chart.edge(self.nodes[start], self.nodes[end], label, "-.->" if is_late else "-->")
        for owner, sharer in self.ties:
            self.chart.edge(self.nodes[owner], self.nodes[sharer], "same weights", "-.-")

    def _side(self, parts: list[Part], tokens: str) -> str:
        """Draw parts one after the other; return the node of the last."""
        x = self.chart.node([tokens], "round")
        pooling = self.model.pooling()
        for number, group in enumerate(group_equal(parts)):
            part = group[0]
            if pooling is not None and not part.is_source and part.module is pooling.reader:
                vector = self.chart.node([pooling.label])
                self.chart.edge(x, vector)
                x = vector
            x = self._group(group, x)
            self.embeddings = x if number == 0 else self.embeddings
        return x

    def _group(self, group: list[Part], x: str) -> str:
        """Draw equal parts once, in a frame that says how many there are."""
        part = group[0]
        if not part.shape:  # data does not pass through it
            self._leaf(part, None, name=part.name)
            return x
        if part.module in self.model.unused_layers():
            self._leaf(part, self.states, name=part.name)
            return x
        if not part.parts and len(group) == 1:
            is_late = isinstance(part.module, Layer) and part.module.reads_last_step
            end = self._leaf(part, None if is_late else x, name=part.name)
        else:
            times, each = (f" x {len(group)}", " each") if len(group) > 1 else ("", "")
            title = f"{group_name(group)}: {part.description.kind}{times}"
            with self.chart.group([title, f"{part.num_parameters:,} parameters{each}"]):
                end = self._part(part, x)
        self.nodes |= {member.name: end for member in group}
        if part.description.out_dim is None:
            self.states = end
        return end

    def _part(self, part: Part, x: str) -> str:
        """Draw a part that reads node `x`; return the node of its output."""
        if not part.parts:
            return self._leaf(part, x)
        steps = steps_of(part.module)
        if not steps:
            for member in part.parts:
                x = self._part(member, x)
            return x
        members = {member.name.removeprefix(f"{part.name}."): member for member in part.parts}
        nodes = {INPUT: x, EMBEDDINGS: self.embeddings}
        for step in steps:
            inputs = self._add([nodes[name] for name in step.inputs])
            member = members.get(step.name)
            nodes[step.name] = inputs if member is None else self._part(member, inputs)
        return nodes[steps[-1].name]

    def _leaf(self, part: Part, x: str | None, *, name: str = "") -> str:
        """Draw a node, fed by node `x`, and by the source where it attends to that."""
        kind, facts, _ = part.description
        title = name if kind in name else f"{name}: {kind}".removeprefix(": ")
        parameters = [f"{part.num_parameters:,} parameters"] if part.num_parameters else []
        node = self.chart.node([title, *facts, *parameters])
        if x is not None:
            self.chart.edge(x, node)
        if part.reads_source:
            for start, label in self.memory:
                self.chart.edge(start, node, label)
        self.nodes[part.name] = node
        self.ties += [(owner, part.name) for owner in part.ties]
        return node

    def _add(self, nodes: list[str]) -> str:
        """Draw the sum of several nodes; one alone is its own sum."""
        if len(nodes) == 1:
            return nodes[0]
        total = self.chart.node(["+"], "circle")
        for node in nodes:
            self.chart.edge(node, total)
        return total
