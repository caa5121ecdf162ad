"""Flowcharts as pictures: boxes that do not overlap, and arrows around them."""

import re

import pytest

from regard.plots.flowchart import draw_flowchart, flowchart_svg
from regard.plots.flowchart_layout import Edge, Frame, Layout, Node
from regard.plots.style import ACCENT, MUTED, SECOND, drawn_page


def nodes(*titles, first=0, shape="box"):
    return [Node(f"n{first + row}", (title, "a fact"), shape) for row, title in enumerate(titles)]


def layout(columns, edges=()):
    """Return the layout of a chart."""
    with drawn_page("svg") as (sheet, _):
        return Layout(sheet, columns, edges)


def boxes_of(chart):
    return [
        (box.left, box.top, box.left + box.width, box.top + box.height)
        for box in chart.boxes.values()
    ]


def test_boxes_and_frames_have_their_texts(drawn):
    column = [
        Node("n0", ("tokens",), "round"),
        Frame(("blocks.0-3: block x 4", "8 each"), nodes("norm", "attention", first=1)),
        Node("n3", ("+",), "circle"),
    ]
    svg = drawn(lambda path: draw_flowchart([column], [Edge("n0", "n1"), Edge("n1", "n2")], path))
    assert {"tokens", "blocks.0-3: block x 4", "8 each", "norm", "attention", "+"} <= set(svg.texts)


def test_no_box_overlaps_another_and_all_are_on_the_page():
    edges = [
        Edge("n0", "n6"),
        Edge("n0", "n2", "skips"),
        Edge("n3", "n1", "back", "-.->"),
        Edge("n2", "n9"),
    ]
    chart = layout(
        [nodes(*"abcd"), [*nodes("long " * 40, first=4), Frame(("f",), nodes(*"efghi", first=5))]],
        edges,
    )
    boxes = boxes_of(chart)
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert 0 < left < right < chart.width and 0 < top < bottom < chart.height
        for a, b, c, d in boxes[index + 1 :]:
            assert right < a or c < left or bottom < b or d < top


def test_two_columns_are_next_to_each_other():
    columns = [nodes("encoder"), nodes("decoder", first=1)]
    encoder, decoder = boxes_of(layout(columns, [Edge("n0", "n1", "keys, values")]))
    with drawn_page("svg") as (sheet, _):
        assert encoder[2] + sheet.measure("keys, values", 7) < decoder[0]
    assert encoder[1] == decoder[1]


def test_arrows_that_overlap_have_lanes_of_their_own_and_others_share():
    edges = [Edge("n0", "n2"), Edge("n2", "n4"), Edge("n0", "n4")]
    chart = layout([nodes(*"abcde")], edges)
    assert [route.lane for route in chart.beside[0]] == [0, 0, 1]


def test_kinds_of_lines_differ_in_color(drawn):
    columns = [nodes(*"abc"), nodes("d", first=3)]
    edges = [
        Edge("n0", "n1"),
        Edge("n2", "n0", "to the next step", "-.->"),
        Edge("n0", "n2", "same weights", "-.-"),
        Edge("n1", "n3", "keys"),
    ]
    svg = drawn(lambda path: draw_flowchart(columns, edges, path))
    assert all(svg.count(f"stroke: {color.light}") for color in (MUTED, SECOND, ACCENT))
    assert {"to the next step", "same weights", "keys"} <= set(svg.texts)
    assert len(re.findall("stroke-dasharray", svg.source)) == 2


def test_a_name_that_is_too_long_is_cut(drawn):
    svg = drawn(lambda path: draw_flowchart([[Node("n0", ("name " * 60,))]], [], path))
    (text,) = svg.texts
    assert text.startswith("name name") and text.endswith("…")
    assert svg.width < 450


@pytest.mark.parametrize("columns", [[], [[]], [[], nodes("alone")]])
def test_little_is_drawn(columns):
    assert "<svg" in flowchart_svg(columns, [])
