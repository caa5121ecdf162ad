"""Every family as a flowchart: its grammar, and what it shows."""

from __future__ import annotations

import html
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.plots.read_svg import Svg
from torch import nn

from regard.explain.diagram import build_flowchart, draw_diagram, save_diagram
from regard.explain.mermaid import Flowchart
from regard.layers.attention_config import AttentionConfig
from regard.layers.layer import INPUT, Flow, Layer
from regard.layers.norm import LayerNorm
from regard.models import (
    DECODERS,
    ENCODERS,
    FAMILIES,
    Bert,
    BertConfig,
    Classifier,
    MesaNetConfig,
    TransformerXlConfig,
)
from regard.models.gpt.model import Gpt, GptConfig

LABEL = r'"([^"\[\]<>]|<br/>|\[|\])*"'
NODE = re.compile(rf"(n\d+)(\[{LABEL}\]|\(\[{LABEL}\]\)|\(\({LABEL}\)\))")
GROUP = re.compile(rf"subgraph (g\d+)\[{LABEL}\]")
EDGE = re.compile(rf"(n\d+) (-->|-\.->|-\.-)(\|{LABEL}\|)? (n\d+)")
NAMED = re.compile(r'(n\d+)[\[(]+"([^"]*)')
FLOW = re.compile(r'(n\d+) -->(?:\|"(.*)"\|)? (n\d+)')
HEADS = {"num_heads": 2, "hidden_dim": 48}
SIDES = {"num_encoder_layers": 3, "num_decoder_layers": 3, "dim": 32}
STACK = {"num_layers": 3, "dim": 32} | HEADS
SIZES = {
    "transformer": SIDES | HEADS,
    "lstm": SIDES,
    "conv_s2s": SIDES,
    "t5": SIDES | HEADS,
    "longformer": STACK | {"window": 8},
    "modernbert": STACK | {"window": (0, 8)},
    "encoder_decoder": {
        "encoder": BertConfig(**STACK | {"dim": 16}),
        "decoder": TransformerXlConfig(**STACK),
    },
}
SIDES_ALONE = {
    **{
        f"{family} as decoder": (DECODERS, family) for family in ("transformer", "lstm", "conv_s2s")
    },
    "transformer as encoder": (ENCODERS, "transformer"),
}


def build(family, patterns=AttentionConfig(), families=FAMILIES, **changes):  # noqa: B008
    made = families[family]
    sizes = SIZES.get(family, STACK)
    return made.model(made.config(**sizes | changes), 50, patterns)


class Chart:
    """A chart read back, every line of which must be a node, an edge or a frame's edge."""

    def __init__(self, text):
        init, kind, *lines = text.splitlines()
        assert init.startswith("%%{init: {") and init.endswith("}}%%")
        assert kind == "flowchart TB"
        self.labels, self.frames, self.titles, self.edges = {}, {}, [], []
        open_frames = []
        for line in map(str.strip, lines):
            if found := GROUP.fullmatch(line):
                assert found[1] not in self.frames
                self.frames[found[1]] = set()
                self.titles.append(line[line.index('"') + 1 : line.rindex('"')])
                open_frames.append(found[1])
            elif line == "end":
                open_frames.pop()
            elif found := NODE.fullmatch(line):
                assert found[1] not in self.labels, "declared twice"
                assert not self.edges, "edges come last"
                self.labels[found[1]] = line[line.index('"') + 1 : line.rindex('"')]
                for frame in open_frames:
                    self.frames[frame].add(found[1])
            else:
                found = EDGE.fullmatch(line)
                assert found, line
                start, arrow, label, _, end = found.groups()
                self.edges.append((start, arrow, (label or "")[2:-2], end))
        assert not open_frames
        for start, _, _, end in self.edges:
            assert {start, end} <= set(self.labels), "an end that is no node"

    def title(self, name):
        return self.labels[name].partition("<br/>")[0]

    def shown(self, arrow="-->"):
        return {
            (self.title(a), label, self.title(b))
            for a, kind, label, b in self.edges
            if kind == arrow
        }

    def reaches(self, start, end):
        """Return whether data flows from one node to another."""
        seen, todo = set(), [name for name in self.labels if self.title(name) == start]
        while todo:
            name = todo.pop()
            if self.title(name) == end:
                return True
            if name not in seen:
                seen.add(name)
                todo += [b for a, arrow, _, b in self.edges if a == name and arrow == "-->"]
        return False


def chart_of(model):
    return Chart(draw_diagram(model))


def classifier(**changes):
    sizes = {"num_layers": 2, "dim": 32, "has_mlm_head": False} | HEADS | changes
    return Classifier(Bert(BertConfig(**sizes), 50), 3)


MODELS = {
    **{family: lambda family=family: build(family) for family in FAMILIES},
    **{
        name: lambda families=families, family=family: build(family, families=families)
        for name, (families, family) in SIDES_ALONE.items()
    },
    "mesanet that reads": lambda: build(
        "encoder_decoder", decoder=MesaNetConfig(num_layers=2, dim=16, **HEADS)
    ),
    "classifier": classifier,
    "pooled": lambda: classifier(has_pooler=True),
    "mean": lambda: classifier(pooling="mean", has_pooler=True, has_mlm_head=True),
    "states": lambda: build("bert", has_mlm_head=False, has_pooler=True, norm="pre"),
    "bahdanau": lambda: build("lstm", attention="bahdanau"),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_a_chart_that_parses(name):
    chart = chart_of(MODELS[name]())
    ends = [label for label in chart.labels.values() if label.startswith(("logits", "states"))]
    assert len(ends) == 1
    for start in ("tokens", "source tokens", "target tokens"):
        if start in chart.labels.values():
            assert chart.reaches(start, ends[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformer", "bahdanau", "gpt", "encoder_decoder"])
def test_the_picture_has_every_text_of_the_chart(name, tmp_path):
    model = MODELS[name]()
    save_diagram(model, tmp_path / "model.svg")
    texts = set(Svg(tmp_path / "model.svg").texts)
    chart = chart_of(model)
    labels = [*chart.labels.values(), *chart.titles, *(label for _, _, label, _ in chart.edges)]
    lines = {line for text in labels for line in text.split("<br/>") if line}
    assert {html.unescape(line.replace("#", "&")) for line in lines} == texts
    has_source = "source tokens" in texts
    assert len(build_flowchart(model).columns) == (2 if has_source else 1)


@pytest.mark.parametrize("name", MODELS)
def test_the_parameters_shown_add_up_to_the_model(name):
    model = MODELS[name]()
    chart = chart_of(model)
    times = dict.fromkeys(chart.labels, 1)
    for (_, members), title in zip(chart.frames.items(), chart.titles, strict=True):
        if found := re.search(r" x (\d+)<br/>", title):
            times |= dict.fromkeys(members, int(found[1]))
    total = 0
    for name_, label in chart.labels.items():
        if found := re.search(r"([\d,]+) parameters", label):
            total += times[name_] * int(found[1].replace(",", ""))
    assert total == sum(parameter.numel() for parameter in model.parameters())


def test_equal_blocks_are_one_frame_and_others_have_their_own():
    chart = chart_of(build("gpt", AttentionConfig(pattern=("local:4", "local:4", "full"))))
    assert [title.partition("<br/>")[0] for title in chart.titles] == [
        "blocks.0-1: block x 2",
        "blocks.2: block",
    ]
    labels = [label for label in chart.labels.values() if label.startswith("self-attention")]
    assert "pattern local:4,0#amp;causal" in labels[0]
    assert "pattern causal" in labels[1]


def test_pre_norm_adds_what_comes_in_and_post_norm_normalises_the_sum():
    pre = chart_of(build("transformer")).shown()
    assert ("source_embedding", "", "layer norm") in pre
    assert ("source_embedding", "", "+") in pre
    assert ("layer norm", "", "self-attention") in pre
    post = chart_of(build("transformer", norm="post")).shown()
    assert ("source_embedding", "", "self-attention") in post
    assert ("source_embedding", "", "+") in post
    assert ("+", "", "layer norm") in post


def test_cross_attention_reads_the_end_of_the_encoder():
    keys_values = ("encoder_norm: layer norm", "keys, values", "cross-attention")
    assert keys_values in chart_of(build("transformer")).shown()


def test_a_joined_decoder_reads_the_end_of_another_family_by_a_map_between_sizes():
    shown = chart_of(build("encoder_decoder")).shown()
    assert ("encoder_output: linear", "keys, values", "cross-attention") in shown
    of_one_size = build("encoder_decoder", encoder=BertConfig(**STACK, norm="pre"))
    assert ("encoder.norm: layer norm", "keys, values", "cross-attention") in chart_of(
        of_one_size
    ).shown()


def test_tables_that_are_one_are_tied():
    ties = {
        tied: chart_of(build("transformer", tied=tied)).shown("-.-")
        for tied in ("all", "target", "none")
    }
    assert ties["all"] == {
        ("source_embedding", "same weights", "target_embedding"),
        ("source_embedding", "same weights", "output_weight"),
    }
    assert ties["target"] == {("target_embedding", "same weights", "output_weight")}
    assert ties["none"] == set()


def test_the_head_of_masked_tokens_is_tied_to_the_embedding():
    ties = chart_of(build("bert")).shown("-.-")
    assert ties == {("embedding", "same weights", "head: masked-token head")}


def test_relative_positions_are_shown_once_and_tied_to_attention():
    shown = chart_of(build("transformer_xl")).shown("-.-")
    shared = "blocks.0.self_attention.shared: relative positions"
    assert (shared, "same weights", "self-attention") in shown


def test_convolutions_attend_by_state_and_token_to_states_and_embeddings():
    shown = chart_of(build("conv_s2s")).shown()
    assert ("target_embedding", "", "+") in shown
    assert ("encoder_output: linear", "keys", "cross-attention") in shown
    assert ("+", "values", "cross-attention") in shown


@pytest.mark.parametrize(
    ("changes", "late"),
    [
        ({"attention": "none"}, set()),
        ({"attention": "luong", "input_feeding": False}, set()),
        ({"attention": "luong"}, {("readout: linear", "to the next step", "decoder.0: LSTM")}),
        (
            {"attention": "bahdanau"},
            {("decoder.1: LSTM", "to the next step", "attention: cross-attention")},
        ),
    ],
)
def test_what_a_recurrent_decoder_is_fed_comes_from_the_step_before(changes, late):
    chart = chart_of(build("lstm", num_decoder_layers=2, tied="none", **changes))
    shown = chart.shown("-.->")
    assert shown == late
    assert any(label == "last states" for _, _, label, _ in chart.edges)


def test_heads_sizes_and_activation_are_shown():
    labels = chart_of(build("gpt", num_kv_heads=1)).labels.values()
    for part in (
        "self-attention<br/>2 heads of 16<br/>1 of keys and values<br/>pattern causal"
        "<br/>rotary positions<br/>3,072 parameters",
        "feed-forward<br/>32 to 48 to 32<br/>swiglu<br/>4,608 parameters",
        "RMS norm<br/>32 parameters",
        "embedding<br/>50 tokens of 32<br/>1,600 parameters",
    ):
        assert part in labels


def test_a_module_of_another_library_is_a_frame_around_its_children():
    class OddLayer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = LayerNorm(32)
            self.inner = nn.Linear(32, 32)

    model = Gpt(GptConfig(num_layers=1, dim=32, **HEADS), 50)
    model.blocks[0] = OddLayer()
    chart = chart_of(model)
    assert chart.titles == ["blocks.0: odd layer<br/>1,120 parameters"]
    assert ("layer norm", "", "linear") in chart.shown()


def test_a_new_block_declares_its_data_flow():
    class Gated(Layer):
        def __init__(self):
            super().__init__()
            self.gate, self.value = nn.Linear(32, 32), nn.Linear(32, 32)

        def steps(self):
            return [
                Flow("gate", (INPUT,)),
                Flow("value", (INPUT,)),
                Flow("sum", ("gate", "value", INPUT)),
            ]

    model = Gpt(GptConfig(num_layers=1, dim=32, **HEADS), 50)
    model.blocks[0] = Gated()
    shown = chart_of(model).shown()
    assert {("embedding", "", "linear"), ("linear", "", "+"), ("embedding", "", "+")} <= shown


@pytest.mark.slow
def test_a_model_on_the_meta_device_is_drawn_too():
    with torch.device("meta"):
        model = build("bert")
    assert "block x 3" in draw_diagram(model)


@pytest.mark.slow
@given(st.text())
def test_any_text_may_be_a_label(text):
    chart = Flowchart()
    node = chart.node([text.replace("\n", " ")])
    chart.edge(node, node, "a|b")
    label = re.fullmatch(r'    n0\["(.*)"\]', chart.text().split("\n")[2], re.DOTALL)
    assert label and not set(label[1]) & set('"<>')


def test_a_chart_is_written_in_this_form():
    chart = Flowchart()
    start = chart.node(["in"], "round")
    with chart.group(["blocks", 'a "title"']):
        end = chart.node(["+"], "circle")
    chart.edge(start, end, "keys")
    chart.edge(end, start, line="-.->")
    chart.edge(start, end, "same", "-.-")
    assert chart.text().split("\n", 1)[1] == (
        "flowchart TB\n"
        '    n0(["in"])\n'
        '    subgraph g0["blocks<br/>a #quot;title#quot;"]\n'
        '        n1(("+"))\n'
        "    end\n"
        '    n0 -->|"keys"| n1\n'
        "    n1 -.-> n0\n"
        '    n0 -.-|"same"| n1\n'
    )


@pytest.mark.parametrize(
    ("norm", "states", "keys"),
    [
        ("pre", "decoder_norm: layer norm", "encoder_norm: layer norm"),
        ("post", "layer norm", "layer norm"),  # within the last block
    ],
)
def test_the_copy_mechanism_reads_logits_states_embeddings_and_the_source(norm, states, keys):
    chart = draw_diagram(build("transformer", norm=norm, has_copy=True))
    names = {node: label.split("<br/>")[0] for node, label in NAMED.findall(chart)}
    (head,) = (node for node, name in names.items() if name.startswith("copy_head"))
    edges = [match.groups() for match in FLOW.finditer(chart)]
    assert {label: names[start] for start, label, end in edges if end == head} == {
        None: "output_weight",
        "states": states,
        "embedded input": "target_embedding",
        "keys, values": keys,
    }
    assert [names[end] for start, _, end in edges if start == head] == [
        "log-probabilities of 50 tokens"
    ]
