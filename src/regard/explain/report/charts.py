"""Charts as SVG elements, with colors of the page's style sheet and a table twin each.

A chart is drawn in units of which its width has 440, about pixels; the page scales it. Texts are
texts, so that the reader's fonts draw them in every script.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from regard.explain.report.markup import Child, Markup, tag
from regard.plots.confusion_matrix import ClassificationPicture, merge_rare_labels
from regard.plots.forecast_panels import ForecastPanel
from regard.plots.score_by_length import LengthBin, ScoreByLengthPicture
from regard.plots.style import SCALE, thin
from regard.setup.evaluation_details import CalibrationChart

WIDTH = 440.0
_NUM_COLORS = len(SCALE)
_LIGHT_TEXT_FROM = 7  # step of the scale
_MOST_COLUMNS = 56


class Chart(NamedTuple):
    """A chart and the same figures as a table.

    Args:
        svg: The picture.
        table: For those who do not see it, or want its numbers.
    """

    svg: Markup
    table: Markup

    def figure(self, title: str, *notes: Child) -> Markup:
        """Return both as a figure with a title and notes."""
        return tag(
            "figure",
            tag("h3", title),
            tag("div", self.svg, class_="scroll"),
            *(tag("p", note, class_="note") for note in notes if note),
            tag("details", tag("summary", "table"), self.table, class_="twin"),
        )


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


def table(headers: Sequence[Child], rows: Sequence[Sequence[Child]], caption: str) -> Markup:
    """Return a table; the first cell of a row is its header."""
    head = tag("tr", *(tag("th", header, scope="col") for header in headers))
    body = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    return tag(
        "div",
        tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body)),
        class_="scroll",
        tabindex="0",
    )


def number_text(value: float | None) -> str:
    """Return a figure as people read it; a dash where there is none.

    >>> number_text(54.234), number_text(3.3), number_text(0.00741), number_text(12345.6)
    ('54.2', '3.30', '0.00741', '12,346')
    >>> number_text(0), number_text(None)
    ('0', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:#.3g}" if abs(value) >= 1e-4 else f"{value:.3g}"


def bar_chart(bars: Sequence[Bar], label: str) -> Chart:
    """Draw values as bars, with their intervals.

    Args:
        bars: From top to bottom.
        label: What they are, in words.
    """
    names, right = 172.0, 144.0
    width, line = WIDTH - names - right, 32.0
    largest = max((bar.high or bar.value for bar in bars), default=0.0) or 1.0

    def x(value: float) -> float:
        return names + width * min(1.0, max(0.0, value / largest))

    parts: list[Markup] = []
    for number, bar in enumerate(bars):
        y = number * line
        interval = ""
        kind = "own" if bar.is_own else "floor"
        parts.append(_text(names - 8, y + 20, _shorten(bar.name, 25), class_=f"end {kind}-name"))
        parts.append(
            tag("rect", x=names, y=y + 8, width=x(bar.value) - names, height=16.0, class_=kind)
        )
        if bar.low is not None and bar.high is not None:
            parts.append(_line(x(bar.low), y + 16, x(bar.high), y + 16, class_="whisker"))
            parts += [
                _line(x(end), y + 12, x(end), y + 20, class_="whisker")
                for end in (bar.low, bar.high)
            ]
            interval = f"  {number_text(bar.low)}–{number_text(bar.high)}"
        parts.append(
            tag(
                "text",
                tag("tspan", number_text(bar.value), class_="strong"),
                tag("tspan", interval, class_="muted"),
                x=names + width + 8,
                y=y + 20,
            )
        )
    parts.append(_line(names, 2.0, names, len(bars) * line, class_="axis"))
    rows = [
        [bar.name, number_text(bar.value), number_text(bar.low), number_text(bar.high)]
        for bar in bars
    ]
    svg = _svg(parts, len(bars) * line + 4, label)
    return Chart(svg, table([label, "value", "95 % from", "to"], rows, label))


def binned_chart(picture: ScoreByLengthPicture) -> Chart:
    """Draw the mean score of rows in groups, with intervals."""
    left, top, height, bottom = 36.0, 28.0, 168.0, 52.0
    width = WIDTH - left - 16
    step = width / max(1, len(picture.bins))
    ends = [
        mean + margin
        for each in picture.bins
        for mean, margin in zip(each.means, each.margins, strict=True)
    ]
    most = _round_up(min(100.0, max([1.0, *ends])))

    def y(value: float) -> float:
        return top + height * (1 - min(1.0, max(0.0, value / most)))

    parts = _grid(left, width, [most * index / 4 for index in range(5)], y)
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
            parts.append(_line(x, y(low), x, y(high), class_=f"interval {kind}"))
            points.append((x, y(mean)))
        parts.append(_polyline(points, class_=f"curve {kind}"))
        parts += [tag("circle", cx=x, cy=top_, r=4, class_=f"dot {kind}") for x, top_ in points]
        legend = left + 92.0 * number
        if len(picture.names) > 1:
            parts.append(tag("circle", cx=legend + 4, cy=10, r=4, class_=f"dot {kind}"))
            parts.append(_text(legend + 14, 14.0, name))
    for index, each in enumerate(picture.bins):
        x = left + (index + 0.5) * step
        parts.append(_text(x, top + height + 18, range_text(each), class_="middle small"))
        parts.append(_text(x, top + height + 32, f"{each.num_rows:,}", class_="middle small muted"))
    caption = f"{picture.unit}; below, the number of {picture.row}s"
    parts.append(_text(left + width / 2, top + height + 50, caption, class_="middle muted"))
    if len(picture.names) == 1:
        parts.append(
            _text(left, 14.0, f"mean {picture.names[0]} with its 95 % interval", class_="muted")
        )
    rows = [
        [
            range_text(each),
            f"{each.num_rows:,}",
            *(
                f"{number_text(mean)} ± {number_text(margin)}"
                for mean, margin in zip(each.means, each.margins, strict=True)
            ),
        ]
        for each in picture.bins
    ]
    label = f"Mean {', '.join(picture.names)} by {picture.unit}"
    headers = [picture.unit, f"{picture.row}s", *picture.names]
    return Chart(_svg(parts, top + height + bottom + 6, label), table(headers, rows, label))


def reliability_chart(calibration: CalibrationChart) -> Chart:
    """Draw how often predictions are correct by their probability, and how many there are."""
    bins = calibration.bins
    left, top, side, gap, low = 44.0, 8.0, 220.0, 12.0, 48.0
    num_bins, total = len(bins.counts), max(1, sum(bins.counts))
    cell = side / num_bins
    points = []
    most = max(bins.counts, default=0) or 1
    base = top + side + gap + low
    parts = _square(left, top, side, base)
    for index, count in enumerate(bins.counts):
        if not count:
            continue
        x, share = left + index * cell, bins.accuracy[index]
        height = side * share
        box = {"x": x + 1, "width": cell - 2}
        parts.append(tag("rect", **box, y=top + side - height, height=height, class_="column"))
        tall = low * count / most
        parts.append(tag("rect", **box, y=base - tall, height=tall, class_="own"))
        points.append((left + side * bins.confidence[index], top + side - height))
    parts.append(_line(left, top + side, left + side, top, class_="diagonal"))
    parts.append(_polyline(points, class_="curve first"))
    parts += [tag("circle", cx=x, cy=y, r=4, class_="dot first") for x, y in points]
    parts.append(_line(left, base, left + side, base, class_="axis"))
    parts.append(_text(left + side - 8, top + side - 10, "too sure", class_="end muted"))
    parts.append(_text(left + 8, top + 18, "not sure enough", class_="muted"))
    beside = left + side + 24
    error = f"{bins.calibration_error:.1f} %"
    facts = [
        (error, "strong large"),
        ("expected calibration", "muted"),
        ("error", "muted"),
        (f"{sum(bins.counts):,}", "strong"),
        (f"{calibration.unit}s" if total != 1 else calibration.unit, "muted"),
    ]
    for number, (text, kind) in enumerate(facts):
        y = top + 24 + 18 * number + (16 if number > 2 else 0)
        parts.append(_text(beside, y, text, class_=kind))
    parts.append(_text(left + side / 2, base + 30, "probability (%)", class_="middle muted"))
    parts.append(_text(beside, base - 4, f"{calibration.unit}s in each bin", class_="muted"))
    rows = [
        [
            f"{100 * index // num_bins}–{100 * (index + 1) // num_bins} %",
            f"{count:,}",
            f"{100 * bins.confidence[index]:.1f} %" if count else "–",
            f"{100 * bins.accuracy[index]:.1f} %" if count else "–",
        ]
        for index, count in enumerate(bins.counts)
    ]
    label = f"{calibration.title}: expected calibration error {error}"
    headers = ["probability", f"{calibration.unit}s", "mean probability", "correct"]
    return Chart(_svg(parts, base + 36, label), table(headers, rows, label))


def level_chart(calibration: CalibrationChart) -> Chart:
    """Draw how many values are below each quantile, by its level."""
    bins = calibration.bins
    left, top, side = 44.0, 8.0, 220.0
    parts = _square(left, top, side, top + side)
    points = [
        (left + side * level, top + side * (1 - share))
        for level, share in zip(bins.confidence, bins.accuracy, strict=True)
    ]
    parts.append(_line(left, top + side, left + side, top, class_="diagonal"))
    parts.append(_polyline(points, class_="curve first"))
    parts += [tag("circle", cx=x, cy=y, r=4, class_="dot first") for x, y in points]
    distance, beside = f"{bins.calibration_error:.1f} %", left + side + 24
    num_values = max(bins.counts, default=0)
    facts = [
        (distance, "strong large"),
        ("mean distance from", "muted"),
        ("the diagonal", "muted"),
        (f"{num_values:,}", "strong"),
        (f"{calibration.unit}s", "muted"),
    ]
    for number, (text, kind) in enumerate(facts):
        y = top + 24 + 18 * number + (16 if number > 2 else 0)
        parts.append(_text(beside, y, text, class_=kind))
    parts.append(_text(left + side / 2, top + side + 32, "level (%)", class_="middle muted"))
    rows = [
        [f"{100 * level:g} %", f"{100 * share:.1f} %"]
        for level, share in zip(bins.confidence, bins.accuracy, strict=True)
    ]
    label = f"{calibration.title}: mean distance from the diagonal {distance}"
    return Chart(
        _svg(parts, top + side + 38, label),
        table(["level", f"{calibration.unit}s below the quantile"], rows, label),
    )


class _ForecastLines(NamedTuple):
    """The lines of a forecast, as many of them as are known.

    Args:
        history: End of the history.
        actual: What came; empty where it is not known.
        quantiles: By level.
        times: Of the history and the steps ahead; empty where they are not known.
        horizon: Number of steps ahead.
    """

    history: list[float]
    actual: list[float]
    quantiles: dict[float, list[float]]
    times: list[str]
    horizon: int

    @classmethod
    def of_panel(cls, panel: ForecastPanel) -> _ForecastLines:
        """Return the lines of a panel, with twice as much history as is ahead."""
        horizon = len(panel.quantiles)
        num_shown = min(len(panel.history), max(24, 2 * horizon))
        levels = {level: panel.quantile(level) for level in (0.025, 0.1, 0.5, 0.9, 0.975)}
        return cls(
            history=[float(value) for value in panel.history[len(panel.history) - num_shown :]],
            actual=[] if panel.actual is None else [float(value) for value in panel.actual],
            quantiles={k: [float(v) for v in row] for k, row in levels.items() if row is not None},
            times=list(panel.times)[-(num_shown + horizon) :],
            horizon=horizon,
        )

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest number; 0 and 1 where there are none."""
        lines = (self.history, self.actual, *self.quantiles.values())
        finite = [value for line in lines for value in line if math.isfinite(value)]
        return (min(finite), max(finite)) if finite else (0.0, 1.0)

    def rows(self) -> list[list[str]]:
        """Return the steps ahead as the rows of a table."""
        rows = []
        for index in range(self.horizon):
            time = self.times[len(self.history) + index] if self.times else f"+{index + 1}"
            cells = [
                number_text(self.quantiles[level][index]) if level in self.quantiles else "–"
                for level in (0.1, 0.5, 0.9)
            ]
            rows.append([time, *cells, number_text(self.actual[index] if self.actual else None)])
        return rows


def forecast_chart(panel: ForecastPanel) -> Chart:
    """Draw a forecast with its bands next to the end of its history and what came."""
    left, top, width, height = 44.0, 8.0, WIDTH - 60.0, 150.0
    lines = _ForecastLines.of_panel(panel)
    num_history, (lowest, highest) = len(lines.history), lines.range
    span = highest - lowest or 1.0

    def x(index: float) -> float:
        return left + width * index / max(1, num_history + lines.horizon - 1)

    def y(value: float) -> float:
        return top + height * (1 - (value - lowest) / span)

    parts = _grid(left, width, [lowest + span * index / 3 for index in range(4)], y)
    for low, high, kind in ((0.025, 0.975, "wide-band"), (0.1, 0.9, "inner-band")):
        if low in lines.quantiles and high in lines.quantiles:
            upper, lower = (
                [(x(num_history + i), y(v)) for i, v in enumerate(lines.quantiles[level])]
                for level in (high, low)
            )
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*upper, *reversed(lower)])
            parts.append(tag("polygon", points=points, class_=kind))
    for start, values, kind in (
        (0, lines.history, "history"),
        (num_history, lines.quantiles.get(0.5, []), "curve first"),
        (num_history, lines.actual, "came"),
    ):
        parts += [
            _polyline([(x(start + index), y(values[index])) for index in run], class_=kind)
            for run in _runs(values)
        ]
    bottom = top + height
    names = (("history", "muted"), ("what came", "problem"), ("median and bands", "own-name"))
    for number, (name, kind) in enumerate(names):
        parts.append(_text(left + 110.0 * number, bottom + 36, name, class_=kind))
    if lines.times:
        for index, kind in ((0, ""), (num_history, "middle"), (len(lines.times) - 1, "end")):
            time = lines.times[index]
            parts.append(_text(x(index), bottom + 16, time, class_=f"small muted {kind}"))
    label = f"Forecast of {panel.title}"
    return Chart(
        _svg(parts, bottom + 42, label),
        table(["time", "10 %", "median", "90 %", "what came"], lines.rows(), label),
    )


def confusion_chart(picture: ClassificationPicture) -> Chart:
    """Draw the inputs of each true label by the label that was predicted."""
    labels, counts = merge_rare_labels(picture.labels, picture.counts)
    longest = max(map(len, labels), default=1)
    names = min(120.0, 16.0 + 6.5 * min(longest, 18))
    cell = min(44.0, (WIDTH - names - 24) / max(1, len(labels)))
    size = "small" if cell >= 14 else "tiny"
    top, side = 22.0, cell * len(labels)
    most_chars = max(4, int((names - 12) / (6.2 if size == "small" else 4.4)))
    parts: list[Markup] = [_text(names, 12.0, "predicted label →", class_="muted")]
    largest = max((count for row in counts for count in row), default=0)
    has_room = cell >= 8.0 + 6.0 * len(f"{largest:,}")
    for row, values in enumerate(counts):
        y, total = top + row * cell, max(1, sum(values))
        name = _shorten(labels[row] or "(empty)", most_chars)
        parts.append(_text(names - 6, y + cell / 2 + 3.5, name, class_=f"end {size}"))
        for column, count in enumerate(values):
            x = names + column * cell
            box = {"x": x + 0.5, "y": y + 0.5, "width": cell - 1, "height": cell - 1}
            if not count:
                parts.append(tag("rect", **box, class_="nothing"))
                continue
            step = min(_NUM_COLORS - 1, count * _NUM_COLORS // total)
            title = tag("title", f"{labels[row]} taken for {labels[column]}: {count:,}")
            parts.append(Markup(f"<g>{title}{tag('rect', **box, class_=f's{step}')}"))
            if has_room:
                ink = "on-dark" if step >= _LIGHT_TEXT_FROM else "on-light"
                at = x + cell / 2, y + cell / 2 + 3.5
                parts.append(_text(*at, f"{count:,}", class_=f"middle small {ink}"))
            parts.append(Markup("</g>"))
    bottom = top + side
    for column, label in enumerate(labels):
        x = names + (column + 0.5) * cell
        name = _shorten(label or "(empty)", most_chars)
        turned = f"rotate(-55 {x:.1f} {bottom + 10:.1f})"
        parts.append(_text(x, bottom + 10, name, class_=f"end {size}", transform=turned))
    height = bottom + 16 + min(96.0, 5.6 * min(longest, most_chars))
    rows = [
        [label or "(empty)", *(f"{count:,}" for count in values)]
        for label, values in zip(labels, counts, strict=True)
    ]
    label = "Confusion: true labels down, predicted labels across"
    return Chart(_svg(parts, height, label), table(["true label", *labels], rows, label))


def heat_chart(
    layers: Sequence[str],
    steps: Sequence[int],
    figures: Mapping[str, Sequence[float | None]],
    marks: Sequence[tuple[str, int]],
    label: str,
) -> Chart:
    """Draw figures of layers over recorded steps, colored by their logarithm.

    Args:
        layers: Names, from top to bottom.
        steps: Of the columns.
        figures: By layer, one a step; None where unknown.
        marks: Layer and step of each problem.
        label: What the figures are.
    """
    scale = _LogScale.of_figures(v for layer in layers for v in figures.get(layer, ()))
    totals = [
        math.fsum(figures[layer][index] or 0.0 for layer in layers) for index in range(len(steps))
    ]
    columns = thin(totals, _MOST_COLUMNS) if steps else []
    names, top = 112.0, 6.0
    height = 16.0 if len(layers) <= 24 else max(6.0, 384.0 / len(layers))
    size = "small" if height >= 12 else "tiny"
    cell = min(32.0, (WIDTH - names - 8) / max(1, len(columns)))
    marked = {layer for layer, _ in marks}
    parts: list[Markup] = []
    for row, layer in enumerate(layers):
        y = top + row * height
        kind = "problem" if layer in marked else ""
        name = _shorten(layer, 17 if size == "small" else 26)
        parts.append(_text(names - 6, y + height / 2 + 3.5, name, class_=f"end {size} {kind}"))
        box = {"y": y, "width": cell - min(1.0, cell / 8), "height": height - 1}
        for number, column in enumerate(columns):
            step = scale.step(figures[layer][column])
            if step is not None:
                parts.append(tag("rect", x=names + number * cell, **box, class_=f"s{step}"))
    bottom = top + height * len(layers)
    for number in range(0, len(columns), max(1, math.ceil(48 / cell))):
        text, x = f"{steps[columns[number]]:,}", names + (number + 0.5) * cell
        parts.append(_text(x, bottom + 14, text, class_="middle small muted"))
    for _, step in marks:
        x = names + cell * sum(steps[column] < step for column in columns)
        parts.append(_line(x, top - 4, x, bottom + 2, class_="problem-line"))
    parts.append(_text(names - 6, bottom + 14, "step", class_="end small muted"))
    parts += scale.legend(names, bottom + 26)
    shown = columns[:: max(1, math.ceil(len(columns) / 8))]
    rows = [[layer, *(number_text(figures[layer][column]) for column in shown)] for layer in layers]
    headers = ["layer", *(f"step {steps[column]:,}" for column in shown)]
    return Chart(_svg(parts, bottom + 42, label), table(headers, rows, label))


class _LogScale(NamedTuple):
    """Colors of figures by their logarithm.

    Args:
        low: The smallest figure, above 0.
        high: The largest.
    """

    low: float
    high: float

    @classmethod
    def of_figures(cls, figures: Iterable[float | None]) -> _LogScale:
        """Return the scale of figures; those that are unknown or not above 0 have no color."""
        positive = [figure for figure in figures if figure is not None and figure > 0]
        return cls(min(positive), max(positive)) if positive else cls(1.0, 1.0)

    def step(self, figure: float | None) -> int | None:
        """Return the index of the color of a figure; None where it has none."""
        if figure is None or figure <= 0:
            return None
        span = math.log(self.high) - math.log(self.low) or 1.0
        part = (math.log(figure) - math.log(self.low)) / span
        return min(_NUM_COLORS - 1, int(part * _NUM_COLORS))

    def legend(self, left: float, top: float) -> list[Markup]:
        """Draw the colors with the figures at both ends."""
        colors = [
            tag("rect", x=left + 10 * step, y=top, width=10, height=8, class_=f"s{step}")
            for step in range(_NUM_COLORS)
        ]
        text = f"{number_text(self.low)} to {number_text(self.high)}, logarithmic"
        return [*colors, _text(left + 10 * _NUM_COLORS + 8, top + 8, text, class_="small muted")]


def range_text(each: LengthBin) -> str:
    """Return the values of a group in words."""
    if each.shortest == each.longest:
        return f"{each.shortest:,}"
    return f"{each.shortest:,}–{each.longest:,}"


def _svg(parts: Sequence[Markup], height: float, label: str) -> Markup:
    return tag(
        "svg",
        *parts,
        class_="chart",
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_label=label,
    )


def _square(left: float, top: float, side: float, bottom: float) -> list[Markup]:
    """Return the grid of two axes from 0 to 100 %, the labels of the lower one below `bottom`."""
    parts = []
    for tick in range(6):
        at, name = side * tick / 5, f"{20 * tick}"
        parts += [
            _line(left, top + at, left + side, top + at, class_="grid"),
            _line(left + at, top, left + at, top + side, class_="grid"),
            _text(left - 6, top + side - at + 4, f"{name} %", class_="end small muted"),
            _text(left + at, bottom + 14, name, class_="middle small muted"),
        ]
    return parts


def _runs(values: Sequence[float]) -> list[list[int]]:
    """Return the indices of finite values in runs without a gap."""
    runs: list[list[int]] = []
    for index, value in enumerate(values):
        if not math.isfinite(value):
            continue
        if not runs or runs[-1][-1] != index - 1:
            runs.append([])
        runs[-1].append(index)
    return runs


def _grid(
    left: float, width: float, ticks: Sequence[float], y: Callable[[float], float]
) -> list[Markup]:
    """Return the lines of an axis of values with their labels."""
    parts = []
    for tick in ticks:
        at, text = y(tick), f"{tick:.3g}" if abs(tick) < 1000 else f"{tick:,.0f}"
        parts.append(_line(left, at, left + width, at, class_="grid" if tick else "axis"))
        parts.append(_text(left - 6, at + 4, text, class_="end small muted"))
    return parts


def _text(x: float, y: float, text: str, **attributes: object) -> Markup:
    return tag("text", text, x=float(x), y=float(y), **attributes)


def _line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> Markup:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), **attributes)


def _polyline(points: Sequence[tuple[float, float]], **attributes: object) -> Markup:
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), **attributes)


def _round_up(value: float) -> float:
    """Return the next larger number whose quarters are short."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def _shorten(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
