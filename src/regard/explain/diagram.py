"""The architecture of a built model as a flowchart, drawn from its module tree.

Every part of `parts` is a node, or a frame around its parts; blocks that are alike and follow one
another are drawn once, with their number. A block whose layers have residual connections is drawn
by these; what flows elsewhere than from part to part, such as the source of an attention, is told
by the class of a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from regard.explain.mermaid import Flowchart
from regard.explain.module_tree import Part, fold, is_aside, list_parts, run_name, sublayers
from regard.layers.convolution import ConvBlock, ConvDecoderBlock
from regard.layers.multi_head_attention import CrossAttention
from regard.layers.recurrent import Lstm
from regard.layers.seq2seq_attention import BahdanauAttention, Seq2SeqAttention
from regard.models import Classifier, Encoder, Model, TextModel, Vit
from regard.models.conv_s2s.model import ConvS2S
from regard.models.lstm.model import LstmEncoderDecoder

_LENGTH = 1  # the costs of parts are not drawn


def draw_diagram(model: Model) -> str:
    """Draw the architecture of a model.

    Args:
        model: Of any family; it may be on the meta device.

    Returns:
        A Mermaid flowchart.
    """
    artist = _Artist(model)
    artist.draw(list_parts(model, _LENGTH))
    return artist.chart.text()


@dataclass
class _Artist:
    """Draws the parts of one model; keeps where each has been drawn.

    Args:
        model: The model.
        chart: What is drawn so far.
        places: Node of each part, and of the output of each run.
        ties: Parts that share weights, by their names.
        memory: What attention over a source reads: nodes with what they give.
        tokens: Node of the embedding of the side that is being drawn.
    """

    model: Model
    chart: Flowchart = field(default_factory=Flowchart)
    places: dict[str, str] = field(default_factory=dict)
    ties: list[tuple[str, str]] = field(default_factory=list)
    memory: list[tuple[str, str]] = field(default_factory=list)
    tokens: str = ""

    def draw(self, parts: list[Part]) -> None:
        """Draw the source side where there is one, the other side, and what ties them."""
        source = [part for part in parts if part.is_source]
        if source:
            end = self._side(source, "source tokens")
            self.memory = [(end, "keys, values")]
            if isinstance(self.model, ConvS2S):
                self.memory = [(end, "keys"), (self._sum(end, self.tokens), "values")]
        target = [part for part in parts if not part.is_source]
        what = self.model.config.input if isinstance(self.model, Vit) else "tokens"
        end = self._side(target, "target tokens" if source else what)
        self.chart.edge(end, self.chart.node([_result(self.model)], "round"))
        if isinstance(self.model, LstmEncoderDecoder):
            self._connect_recurrent(self.model)
        for one, other in self.ties:
            self.chart.tie(self.places[one], self.places[other], "same weights")

    def _side(self, parts: list[Part], what: str) -> str:
        """Draw parts one after the other; return the node of the last."""
        x = self.chart.node([what], "round")
        for number, run in enumerate(fold(parts)):
            x = self._run(run, self._taken(run[0], x))
            self.tokens = x if number == 0 else self.tokens
        return x

    def _run(self, run: list[Part], x: str) -> str:
        """Draw parts that are alike once, in a frame that tells how many there are."""
        part = run[0]
        if not part.shape:  # it takes no part in the flow
            self._leaf(part, None, name=part.name)
            return x
        if is_aside(self.model, part.module):
            self._leaf(part, self.places["states"], name=part.name)
            return x
        if not part.inner and len(run) == 1:
            # Additive attention reads the state of the step before, drawn with the recurrence.
            is_late = isinstance(part.module, BahdanauAttention)
            end = self._leaf(part, None if is_late else x, name=part.name)
        else:
            count = f" x {len(run)}" if len(run) > 1 else ""
            each = " each" if len(run) > 1 else ""
            size = f"{part.num_parameters:,} parameters{each}"
            with self.chart.group([f"{run_name(run)}: {part.kind}{count}", size]):
                end = self._part(part, x)
        self.places |= {member.name: end for member in run}
        if not isinstance(self.model, Encoder) or part.module is not self.model.head:
            self.places["states"] = end
        return end

    def _part(self, part: Part, x: str) -> str:
        """Draw a part that reads node `x`; return the node of its output."""
        if not part.inner:
            return self._leaf(part, x)
        inner = {member.name.removeprefix(f"{part.name}."): member for member in part.inner}
        for kind, draw in _BLOCKS.items():
            if isinstance(part.module, kind):
                return draw(self, inner, x)
        if part.module is not None and (pairs := sublayers(part.module)):
            for layer, connection, residual in pairs:
                norm = inner[f"{connection}.norm"]
                x = self._residual(inner[layer], norm, x, is_pre=residual.is_pre)
            return x
        for member in part.inner:
            x = self._part(member, x)
        return x

    def _residual(self, layer: Part, norm: Part, x: str, *, is_pre: bool) -> str:
        if is_pre:
            return self._sum(x, self._part(layer, self._part(norm, x)))
        return self._part(norm, self._sum(x, self._part(layer, x)))

    def _leaf(self, part: Part, x: str | None, *, name: str = "") -> str:
        """Draw a node, fed by node `x`, and by the source where it attends to that."""
        title = f"{name}: {part.kind}" if name and part.kind not in name else name or part.kind
        lines = [title, *part.facts]
        if part.num_parameters:
            lines.append(f"{part.num_parameters:,} parameters")
        node = self.chart.node(lines)
        if x is not None:
            self.chart.edge(x, node)
        if isinstance(part.module, CrossAttention | Seq2SeqAttention):
            for start, what in self.memory:
                self.chart.edge(start, node, what)
        self.places[part.name] = node
        self.ties += [(owner, part.name) for owner in part.ties]
        return node

    def _sum(self, *nodes: str) -> str:
        total = self.chart.node(["+"], "circle")
        for node in nodes:
            self.chart.edge(node, total)
        return total

    def _taken(self, part: Part, x: str) -> str:
        """Draw what a classifier takes of the states, before its pooler or else its output."""
        if isinstance(self.model, Vit):
            return self._pooled(self.model, part, x)
        if not isinstance(self.model, Classifier):
            return x
        encoder = self.model.encoder
        is_first = encoder.config.pooling == "first"
        if part.module is not (encoder.pooler if is_first else None):  # the output has no module
            return x
        node = self.chart.node(["first token" if is_first else "mean over tokens"])
        self.chart.edge(x, node)
        return node

    def _pooled(self, model: Vit, part: Part, x: str) -> str:
        """Draw what stands for an image or a series, before the first map that reads it."""
        first = model.head if model.pooler is None else model.pooler
        if first is None or part.module is not first:
            return x
        is_first = model.config.pooling == "first"
        what = "patches" if model.config.input == "image" else "rows"
        node = self.chart.node(["class token" if is_first else f"mean over {what}"])
        self.chart.edge(x, node)
        return node

    def _connect_recurrent(self, model: LstmEncoderDecoder) -> None:
        """Draw what a recurrent decoder starts from, and what it is fed beside its token."""
        layers = [name for name, module in model.named_modules() if isinstance(module, Lstm)]
        decoder = [self.places[name] for name in layers if name.startswith("decoder")]
        last_read = self.places[f"encoder.{len(model.encoder) - 1}"]
        self.chart.edge(last_read, decoder[0], "last states")
        if model.attention is None:
            return
        attention, readout = self.places["attention"], self.places["readout"]
        self.chart.edge(decoder[-1], readout)
        if isinstance(model.attention, BahdanauAttention):
            self.chart.edge(decoder[-1], attention, "to the next step", is_dotted=True)
            self.chart.edge(attention, decoder[0])
        elif model.feeds_back:
            self.chart.edge(readout, decoder[0], "to the next step", is_dotted=True)

    def conv_block(self, inner: dict[str, Part], x: str) -> str:
        """Draw a convolution with its residual connection."""
        return self._sum(x, self._part(inner["convolution"], x))

    def conv_decoder_block(self, inner: dict[str, Part], x: str) -> str:
        """Draw a convolution, attention by its output and the token, and the sum of all."""
        state = self._part(inner["convolution"], x)
        query = self._sum(self.tokens, self._part(inner["query"], state))
        return self._sum(x, state, self._part(inner["cross_attention"], query))


def _result(model: Model) -> str:
    if isinstance(model, Vit) and model.head is None:
        return "states" if model.pooler is None else "vector"
    if isinstance(model, Classifier | Vit):
        return f"logits of {model.num_labels:,} labels"
    if isinstance(model, Encoder) and model.head is None:
        return "states"
    assert isinstance(model, TextModel)
    return f"logits of {model.vocab_size:,} tokens"


_BLOCKS: dict[type[nn.Module], Callable[[_Artist, dict[str, Part], str], str]] = {
    ConvBlock: _Artist.conv_block,
    ConvDecoderBlock: _Artist.conv_decoder_block,
}
"""How blocks are drawn whose connections their modules do not tell."""
