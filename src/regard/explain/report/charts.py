"""Charts as SVG elements, with colors of the page's style sheet and a table twin each.

A chart is drawn in units of which its width has 440, about pixels; the page scales it. Texts are
texts, so that the reader's fonts draw them in every script.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from regard.data.listing import shorten_line
from regard.explain.report.markup import Markup, tag
from regard.explain.report.svg_parts import (
    NUM_COLORS,
    WIDTH,
    Chart,
    draw_svg,
    line_between,
    number_text,
    polyline,
    table,
    text_at,
    value_grid,
)
from regard.plots.confusion_matrix import ClassificationPicture, merge_rare_labels
from regard.plots.score_by_length import ScoreByLengthPicture
from regard.setup.evaluation_details import CalibrationChart

_LEAST_CELL = 12.0  # has room for the name of its row
_LIGHT_TEXT_FROM = 7  # step of the scale


class Bar(NamedTuple):
    """A value with its interval.

    Args:
        name: What has it.
        value: The value.
        low: Lower end of its interval; None without one.
        high: Upper end.
        is_own: Whether it is the model's own.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    is_own: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends; None where one is not known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def end(self) -> float:
        """How far it is drawn."""
        return self.high or self.value


def bar_chart(bars: Sequence[Bar], label: str) -> Chart:
    """Draw values as bars, with their intervals.

    Args:
        bars: From top to bottom.
        label: What they are, in words.

    Returns:
        The picture and a table of the values.
    """
    names, right = 172.0, 144.0
    width, line = WIDTH - names - right, 32.0
    largest = max((bar.end for bar in bars), default=0.0) or 1.0

    def x(value: float) -> float:
        return names + width * min(1.0, max(0.0, value / largest))

    parts: list[Markup] = []
    for number, bar in enumerate(bars):
        y = number * line
        interval, kind = "", "own" if bar.is_own else "floor"
        name = shorten_line(bar.name, 25)
        parts.append(text_at(names - 8, y + 20, name, class_=f"end {kind}-name"))
        parts.append(
            tag("rect", x=names, y=y + 8, width=x(bar.value) - names, height=16.0, class_=kind)
        )
        if bar.interval is not None:
            low, high = map(x, bar.interval)
            parts += _whisker(low, high, y + 16)
            interval = f"  {'–'.join(map(number_text, bar.interval))}"
        parts.append(
            tag(
                "text",
                tag("tspan", number_text(bar.value), class_="strong"),
                tag("tspan", interval, class_="muted"),
                x=names + width + 8,
                y=y + 20,
            )
        )
    parts.append(line_between(names, 2.0, names, len(bars) * line, class_="axis"))
    rows = [[bar.name, *map(number_text, (bar.value, bar.low, bar.high))] for bar in bars]
    svg = draw_svg(parts, len(bars) * line + 4, label)
    return Chart(svg, table([label, "value", "95 % from", "to"], rows, label))


def binned_chart(picture: ScoreByLengthPicture) -> Chart:
    """Draw the mean score of rows in groups, with intervals."""
    left, top, height, bottom = 36.0, 28.0, 168.0, 52.0
    width = WIDTH - left - 16
    step = width / max(1, len(picture.bins))
    ends = [max(map(operator.add, each.means, each.margins)) for each in picture.bins]
    most = _round_up(min(100.0, max([1.0, *ends])))

    def y(value: float) -> float:
        return top + height * (1 - min(1.0, max(0.0, value / most)))

    parts = value_grid(left, width, [most * index / 4 for index in range(5)], y)
    for number, name in enumerate(picture.names):
        kind = ("first", "second", "third")[number % 3]
        shift = 6.0 * (number - (len(picture.names) - 1) / 2)
        points = []
        for index, each in enumerate(picture.bins):
            x, mean, margin = (
                left + (index + 0.5) * step + shift,
                each.means[number],
                each.margins[number],
            )
            low, high = max(0.0, mean - margin), min(100.0, mean + margin)
            parts.append(line_between(x, y(low), x, y(high), class_=f"interval {kind}"))
            points.append((x, y(mean)))
        parts += _curve(points, kind)
        legend = left + 92.0 * number
        if len(picture.names) > 1:
            parts.append(tag("circle", cx=legend + 4, cy=10, r=4, class_=f"dot {kind}"))
            parts.append(text_at(legend + 14, 14.0, name))
    for index, each in enumerate(picture.bins):
        x = left + (index + 0.5) * step
        parts.append(text_at(x, top + height + 18, each.range_text, class_="middle small"))
        parts.append(
            text_at(x, top + height + 32, f"{each.num_rows:,}", class_="middle small muted")
        )
    caption = f"{picture.unit}; below, the number of {picture.row}s"
    parts.append(text_at(left + width / 2, top + height + 50, caption, class_="middle muted"))
    if len(picture.names) == 1:
        parts.append(
            text_at(left, 14.0, f"mean {picture.names[0]} with its 95 % interval", class_="muted")
        )
    rows = [
        [
            each.range_text,
            f"{each.num_rows:,}",
            *map(_with_margin, each.means, each.margins),
        ]
        for each in picture.bins
    ]
    label = f"Mean {', '.join(picture.names)} by {picture.unit}"
    headers = [picture.unit, f"{picture.row}s", *picture.names]
    return Chart(draw_svg(parts, top + height + bottom + 6, label), table(headers, rows, label))


def reliability_chart(calibration: CalibrationChart) -> Chart:
    """Draw how often predictions are correct by their probability, and how many there are."""
    bins = calibration.bins
    left, top, size, gap, low = 44.0, 8.0, 220.0, 12.0, 48.0
    num_bins, total = len(bins.counts), max(1, sum(bins.counts))
    cell = size / num_bins
    points = []
    most = max(bins.counts, default=0) or 1
    base = top + size + gap + low
    parts = _square(left, top, size, base)
    for index, count in enumerate(bins.counts):
        if not count:
            continue
        x, share = left + index * cell, bins.accuracy[index]
        height = size * share
        box = {"x": x + 1, "width": cell - 2}
        parts.append(tag("rect", **box, y=top + size - height, height=height, class_="column"))
        tall = low * count / most
        parts.append(tag("rect", **box, y=base - tall, height=tall, class_="own"))
        points.append((left + size * bins.confidence[index], top + size - height))
    parts.append(line_between(left, top + size, left + size, top, class_="diagonal"))
    parts += _curve(points, "first")
    parts.append(line_between(left, base, left + size, base, class_="axis"))
    parts.append(text_at(left + size - 8, top + size - 10, "too sure", class_="end muted"))
    parts.append(text_at(left + 8, top + 18, "not sure enough", class_="muted"))
    right = left + size + 24
    error = f"{bins.calibration_error:.1f} %"
    facts = [
        (error, "strong large"),
        ("expected calibration", "muted"),
        ("error", "muted"),
        (f"{sum(bins.counts):,}", "strong"),
        (f"{calibration.unit}s" if total != 1 else calibration.unit, "muted"),
    ]
    parts += _facts(facts, right, top + 24)
    parts.append(text_at(left + size / 2, base + 30, "probability (%)", class_="middle muted"))
    parts.append(text_at(right, base - 4, f"{calibration.unit}s in each bin", class_="muted"))
    rows = [
        [
            f"{100 * index // num_bins}–{100 * (index + 1) // num_bins} %",
            f"{count:,}",
            *_percents((bins.confidence[index], bins.accuracy[index]), is_known=count > 0),
        ]
        for index, count in enumerate(bins.counts)
    ]
    label = f"{calibration.title}: expected calibration error {error}"
    headers = ["probability", f"{calibration.unit}s", "mean probability", "correct"]
    return Chart(draw_svg(parts, base + 36, label), table(headers, rows, label))


def level_chart(calibration: CalibrationChart) -> Chart:
    """Draw how many values are below each quantile, by its level."""
    bins = calibration.bins
    left, top, size = 44.0, 8.0, 220.0
    parts = _square(left, top, size, top + size)
    points = [
        (left + size * level, top + size * (1 - share))
        for level, share in zip(bins.confidence, bins.accuracy, strict=True)
    ]
    parts.append(line_between(left, top + size, left + size, top, class_="diagonal"))
    parts += _curve(points, "first")
    distance, right = f"{bins.calibration_error:.1f} %", left + size + 24
    num_values = max(bins.counts, default=0)
    facts = [
        (distance, "strong large"),
        ("mean distance from", "muted"),
        ("the diagonal", "muted"),
        (f"{num_values:,}", "strong"),
        (f"{calibration.unit}s", "muted"),
    ]
    parts += _facts(facts, right, top + 24)
    parts.append(text_at(left + size / 2, top + size + 32, "level (%)", class_="middle muted"))
    rows = [
        [f"{100 * level:g} %", f"{100 * share:.1f} %"]
        for level, share in zip(bins.confidence, bins.accuracy, strict=True)
    ]
    label = f"{calibration.title}: mean distance from the diagonal {distance}"
    return Chart(
        draw_svg(parts, top + size + 38, label),
        table(["level", f"{calibration.unit}s below the quantile"], rows, label),
    )


def confusion_chart(picture: ClassificationPicture) -> Chart:
    """Draw the inputs of each true label by the label that was predicted."""
    labels, counts = merge_rare_labels(picture.labels, picture.counts)
    longest = max(map(len, labels), default=1)
    names = min(120.0, 16.0 + 6.5 * min(longest, 18))
    cell = max(_LEAST_CELL, min(44.0, (WIDTH - names - 24) / max(1, len(labels))))
    top, map_height = 22.0, cell * len(labels)
    most_chars = max(4, int((names - 12) / 6.2))
    parts: list[Markup] = [text_at(names, 12.0, "predicted label →", class_="muted")]
    largest = max((count for row in counts for count in row), default=0)
    has_room = cell >= 8.0 + 6.0 * len(f"{largest:,}")
    for row, values in enumerate(counts):
        y, total = top + row * cell, max(1, sum(values))
        name = shorten_line(labels[row] or "(empty)", most_chars)
        parts.append(text_at(names - 6, y + cell / 2 + 3.5, name, class_="end small"))
        for column, count in enumerate(values):
            title = f"{labels[row]} taken for {labels[column]}"
            box = _CountBox(names + column * cell, y, cell, has_text=has_room)
            parts += box.draw(count, total, title)
    bottom = top + map_height
    for column, label in enumerate(labels):
        x = names + (column + 0.5) * cell
        name = shorten_line(label or "(empty)", most_chars)
        turned = f"rotate(-55 {x:.1f} {bottom + 10:.1f})"
        parts.append(text_at(x, bottom + 10, name, class_="end small", transform=turned))
    height = bottom + 16 + min(96.0, 5.6 * min(longest, most_chars))
    rows = [
        [label or "(empty)", *(f"{count:,}" for count in values)]
        for label, values in zip(labels, counts, strict=True)
    ]
    label = "Confusion: true labels down, predicted labels across"
    width = max(WIDTH, names + 24 + cell * len(labels))
    picture_of_counts = draw_svg(parts, height, label, width)
    return Chart(picture_of_counts, table(["true label", *labels], rows, label))


class _CountBox(NamedTuple):
    """A square cell that shows a count by its color.

    Args:
        left: Its left end.
        top: Its upper end.
        width: Its width, which is also its height.
        has_text: Whether the count is written into it.
    """

    left: float
    top: float
    width: float
    has_text: bool

    def draw(self, count: int, total: int, title: str) -> list[Markup]:
        """Return the cell of a count, colored by its fraction of a total, with a title."""
        width = self.width - 1
        box = {"x": self.left + 0.5, "y": self.top + 0.5, "width": width, "height": width}
        if not count:
            return [tag("rect", **box, class_="nothing")]
        step = min(NUM_COLORS - 1, count * NUM_COLORS // total)
        start = f"<g>{tag('title', f'{title}: {count:,}')}{tag('rect', **box, class_=f's{step}')}"
        parts = [Markup(start)]
        if self.has_text:
            ink = "on-dark" if step >= _LIGHT_TEXT_FROM else "on-light"
            x, y = self.left + self.width / 2, self.top + self.width / 2 + 3.5
            parts.append(text_at(x, y, f"{count:,}", class_=f"middle small {ink}"))
        return [*parts, Markup("</g>")]


def _with_margin(mean: float, margin: float) -> str:
    return f"{number_text(mean)} ± {number_text(margin)}"


def _whisker(low: float, high: float, y: float) -> Iterator[Markup]:
    """Draw an interval: a line, and one across each end."""
    yield line_between(low, y, high, y, class_="whisker")
    for end in (low, high):
        yield line_between(end, y - 4, end, y + 4, class_="whisker")


def _curve(points: Sequence[tuple[float, float]], kind: str) -> list[Markup]:
    """Draw a curve with a dot at each point, of a class of the style sheet."""
    dots = [tag("circle", cx=x, cy=y, r=4, class_=f"dot {kind}") for x, y in points]
    return [polyline(points, class_=f"curve {kind}"), *dots]


def _facts(facts: Sequence[tuple[str, str]], left: float, top: float) -> Iterator[Markup]:
    """Write texts of classes of the style sheet below each other, the first three apart."""
    for number, (text, kind) in enumerate(facts):
        y = top + 18 * number + (16 if number > 2 else 0)
        yield text_at(left, y, text, class_=kind)


def _percents(fractions: Sequence[float], *, is_known: bool) -> Iterator[str]:
    """Yield fractions in percent; a dash where they are not known."""
    for fraction in fractions:
        yield f"{100 * fraction:.1f} %" if is_known else "–"


def _square(left: float, top: float, size: float, bottom: float) -> list[Markup]:
    """Return the grid of two axes from 0 to 100 %, the labels of the lower one below `bottom`."""
    parts = []
    for tick in range(6):
        at, name = size * tick / 5, f"{20 * tick}"
        parts += [
            line_between(left, top + at, left + size, top + at, class_="grid"),
            line_between(left + at, top, left + at, top + size, class_="grid"),
            text_at(left - 6, top + size - at + 4, f"{name} %", class_="end small muted"),
            text_at(left + at, bottom + 14, name, class_="middle small muted"),
        ]
    return parts


def _round_up(value: float) -> float:
    """Return the next larger number whose quarters are short."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value * (1 - 1e-9))
