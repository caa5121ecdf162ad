"""A picture of an explanation: its words, why one of them, and the alignment.

The page is for looking around; this is one view of it, in the colors of all pictures, light or dark
by the reader's setting. Widths of text are estimated, since the reader's fonts draw it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from xml.sax.saxutils import escape, quoteattr

from regard.explain.document import Explanation, MethodResult, require_explanation
from regard.explain.page.token_text import (
    count_with_unit,
    has_converged,
    is_right_to_left,
    measure_text,
    number_text,
    printable,
    probability_of,
    short_texts,
    token_label,
)
from regard.option_checks import require_index
from regard.plots import style

_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
_WIDTH, _NARROWEST = 880.0, 520.0
_MARGIN = 24.0
_LINE = 32.0  # between lines of words
_MOST_COLUMNS = 48  # words of the input
_MOST_ROWS = 40  # outputs
_SMALLEST_CELL, _LARGEST_CELL = 11.0, 28.0
_SMALL_LINE = 16.0
_BAR_HEIGHT, _LOW_BAR_HEIGHT = 44.0, 16.0
_NARROW, _WIDE = frozenset("iIjl.,:;'|!ftr()[]"), frozenset("mwMW@%—")


def explanation_svg(explanation: Explanation, output: int = 0) -> str:
    """Return a picture of an explanation as the text of an SVG file.

    Args:
        explanation: Explanation of a prediction, of any task.
        output: Index of the output whose scores are drawn as bars.
    """
    require_explanation(explanation)
    require_index("output", output, len(explanation.output))
    return _Picture(explanation, output).draw()


class _Picture:
    """The picture while it is drawn.

    Args:
        explanation: What is drawn.
        output: Whose scores are drawn as bars.
    """

    def __init__(self, explanation: Explanation, output: int) -> None:
        self.explanation, self.output = explanation, output
        self.inputs, self.outputs = short_texts(explanation)
        self.elements: list[str] = []
        self.columns = explanation.read_features()[:_MOST_COLUMNS]
        self.words = [self.inputs[index] for index in self.columns]
        self.methods = explanation.shown_methods()
        self.y, self.right = _MARGIN, _NARROWEST - _MARGIN

    def draw(self) -> str:
        """Draw everything from the top; return the file."""
        self._header()
        self._inputs()
        self._outputs()
        self._name_cut()
        if self.methods:
            self._bars()
            self._trust()
            self._alignment()
        width, height = round(self.right + _MARGIN), round(self.y + _MARGIN)
        body = "\n".join(self.elements)
        title = quoteattr(f"Explanation of {self.explanation.text[:80]!r}")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" aria-label={title}>\n'
            f"<style>{_style_sheet()}</style>\n"
            f'<rect class="page" width="100%" height="100%" rx="12"/>\n{body}\n</svg>\n'
        )

    def _text(
        self, x: float, y: float, text: str, kind: str, anchor: str = "start", extra: str = ""
    ) -> None:
        self.elements.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"{extra}>'
            f"{escape(printable(text))}</text>"
        )

    def _rect(
        self, x: float, y: float, width: float, height: float, kind: str, **more: str
    ) -> None:
        self.right = max(self.right, x + width)
        attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
        self.elements.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'class="{kind}"{attributes}/>'
        )

    def _header(self) -> None:
        model = self.explanation.model
        facts = " · ".join(
            filter(
                None,
                (
                    *(model.name, model.task.replace("_", " "), model.family),
                    *(count_with_unit(model.num_parameters), model.search),
                ),
            )
        )
        self._text(_MARGIN, self.y + 14, "regard", "brand")
        self._text(_MARGIN + 64, self.y + 14, facts, "muted")
        self.right = max(self.right, _MARGIN + 64 + min(_text_width(facts, 13), _WIDTH - 112))
        self.y += 40

    def _lay_out(self, texts: Sequence[str], size: float) -> Iterator[tuple[int, float, float]]:
        """Yield each text's index, left end and width, in lines; `y` moves with the lines."""
        is_reversed = is_right_to_left(texts)
        left, right = _MARGIN + 72, _WIDTH - _MARGIN
        x = left
        for index, text in enumerate(texts):
            width = _text_width(text, size)
            if x + width > right and x > left:
                x, self.y = left, self.y + _LINE
            yield index, (left + right - x - width if is_reversed else x), width
            x += width + 10
        self.y += _LINE

    def _inputs(self) -> None:
        """Write the words of the input, shaded by the scores of the output."""
        labels = [*map(token_label, self.words)]
        parts = {self.explanation.input[index].part for index in self.columns}
        self._text(_MARGIN, self.y + 16, parts.pop() if len(parts) == 1 else "input", "small")
        shades = self._shades(self.methods[0]) if self.methods else {}
        for index, x, width in self._lay_out(labels, 16):
            if index in shades:
                kind, opacity = shades[index]
                self._rect(x - 4, self.y, width + 8, 24, kind, rx="3", fill_opacity=opacity)
            self._text(x + width / 2, self.y + 17, labels[index], "word", "middle")

    def _name_cut(self) -> None:
        """Say how many words of the input and outputs have no room; nothing where all are drawn."""
        counts = [
            (len(self.columns), len(self.explanation.read_features()), "tokens of the input"),
            (min(len(self.outputs), _MOST_ROWS), len(self.outputs), "outputs"),
        ]
        cuts = [f"{num:,} of {total:,} {noun}" for num, total, noun in counts if num < total]
        if cuts:
            text = f"The first {' and '.join(cuts)} are drawn; the page has all."
            self._text(_MARGIN, self.y + 14, text, "small")
            self.y += 24

    def _shades(self, method: MethodResult) -> dict[int, tuple[str, str]]:
        """Return color and opacity of the words whose scores are not small."""
        scores = self._row(method)
        largest, above = max(map(abs, scores), default=0.0), "amount"
        if method.is_signed:
            above = "positive"
        return {
            index: ("negative" if score < 0 else above, f"{0.45 * abs(score) / largest:.2f}")
            for index, score in enumerate(scores)
            if abs(score) > 0.03 * largest
        }

    def _row(self, method: MethodResult) -> list[float]:
        """Return the scores of the output by a method, one for each column; 0 where unknown."""
        row = method.scores[self.output]
        return [row[index] or 0.0 for index in self.columns]

    def _outputs(self) -> None:
        outputs = self.explanation.output[:_MOST_ROWS]
        has_values = self.explanation.unit != "nats"
        labels = [
            f"{token_label(text)} {number_text(output.score)}" if has_values else token_label(text)
            for text, output in zip(self.outputs, outputs, strict=False)
        ]
        self._text(_MARGIN, self.y + 16, "output", "small")
        for index, x, width in self._lay_out(labels, 16):
            output = outputs[index]
            if index == self.output:
                self._rect(x - 4, self.y, width + 8, 24, "chosen", rx="3")
            probability = probability_of(output.score, self.explanation.unit)
            thickness = 1.0 if probability is None else 0.5 + 4.5 * probability
            self._rect(x - 2, self.y + 25, width + 4, thickness, "line")
            self._text(x + width / 2, self.y + 17, labels[index], "word", "middle")
        self.y += 24

    def _bars(self) -> None:
        """Draw a row of bars for each method under the words of the input."""
        word = token_label(self.explanation.output[self.output].text)
        self._text(_MARGIN, self.y + 16, f"Why “{word}”", "title")
        self.y += 32
        left = _MARGIN + 152
        labels = [token_label(word, 12) for word in self.words]
        widths = [max(16.0, _text_width(label, 12) + 6) for label in labels]
        scale = min(1.8, (_WIDTH - _MARGIN - left) / sum(widths))
        ends = [*accumulate(widths, lambda end, width: end + width * scale, initial=left)]
        if scale >= 1:
            for label, start, end in zip(labels, ends, ends[1:], strict=False):
                self._text((start + end) / 2, self.y + 4, label, "small", "middle")
            self.y += 12
        for method in self.methods:
            self._method(method, ends)
        self.y += 12
        self._legend(_MARGIN + 152, "the first method; others are gray")
        self.y += 16

    def _method(self, method: MethodResult, ends: Sequence[float]) -> None:
        """Write the title of a method, and draw its bars."""
        is_first = method is self.methods[0]
        height = _BAR_HEIGHT if is_first else _LOW_BAR_HEIGHT
        kind = "first" if is_first and has_converged(method) else "small"
        self._text(_MARGIN, self.y + height / 2 + 4, method.title, kind)
        if not has_converged(method):
            height = max(height, 2 * _SMALL_LINE)
            self._text(_MARGIN, self.y + height / 2 + 16, "not converged", "small")
        self._bar_row(method, ends, height)
        self.y += height + 4

    def _legend(self, x: float, subject: str) -> None:
        """Write what the colors of scores mean, from `x` on."""
        labels = [("for", f"speaks for the output ({subject})")]
        if any(method.is_signed for method in self.methods):
            labels.append(("against", "against it"))
        for kind, label in labels:
            self._rect(x, self.y, 10, 10, kind, rx="2")
            self._text(x + 16, self.y + 9, label, "small")
            x += 32 + _text_width(label, 11)
        self.y += 20

    def _trust(self) -> None:
        """Write how faithful the first method is, next to random scores, and errors of methods."""
        lines = []
        first = self.methods[0]
        if first.faithfulness is not None:
            measured = ", ".join(
                f"{name} {measure_text(value)} (random {measure_text(floor)})"
                for name, value, floor in first.faithfulness.next_to_random()
            )
            lines.append(f"Faithfulness of {first.title}: {measured}")
        lines += [
            f"Error of {method.title}: {100 * method.error:.1f} %"
            f"{'' if has_converged(method) else ': not converged, leave it out'}"
            for method in self.methods
            if method.error is not None
        ]
        for line in lines:
            self._text(_MARGIN, self.y + 9, line, "small")
            self.right = max(self.right, _MARGIN + min(_text_width(line, 11), _WIDTH - 48))
            self.y += _SMALL_LINE
        self.y += 16

    def _bar_row(self, method: MethodResult, ends: Sequence[float], height: float) -> None:
        values = self._row(method)
        below, above = "against", "for" if method is self.methods[0] else "other"
        if not has_converged(method):
            below = above = "doubtful"
        high, low = max(0.0, *values), min(0.0, *values)
        unit = height / ((high - low) or 1.0)
        zero = self.y + high * unit
        self._rect(ends[0], zero, ends[-1] - ends[0], 0.8, "axis")
        for value, start, end in zip(values, ends, ends[1:], strict=False):
            top, kind = zero - max(0.0, value) * unit, below if value < 0 else above
            self._rect(start + 1.5, top, end - start - 3, max(0.8, abs(value) * unit), kind)

    def _alignment(self) -> None:
        """Draw outputs by words of the input, by the first method."""
        method = self.methods[0]
        rows = method.scores[:_MOST_ROWS]
        if len(rows) < 2:
            return
        largest = method.largest(self.columns, _MOST_ROWS)
        self._text(_MARGIN, self.y + 16, f"Alignment by {method.title}", "title")
        labels = [*map(partial(token_label, most=14), self.words)]
        left = _MARGIN + 112
        above = min(84.0, 12 + 0.8 * max(map(partial(_text_width, size=11), labels)))
        self.y += 24 + above
        room = (_WIDTH - left - _MARGIN - 56) / len(labels)
        cell = max(_SMALLEST_CELL, min(_LARGEST_CELL, room))
        for number, label in enumerate(labels):
            x = left + (number + 0.5) * cell
            turn = f' transform="rotate(-52 {x:.1f} {self.y - 6:.1f})"'
            self._text(x, self.y - 6, label, "small", extra=turn)
        for number, (text, row) in enumerate(zip(self.outputs, rows, strict=False)):
            y = self.y + number * cell
            kind = "first" if number == self.output else "small"
            self._text(left - 8, y + cell / 2 + 4, token_label(text, 14), kind, "end")
            for column, index in enumerate(self.columns):
                self._cell(left + column * cell, y, cell, row[index], largest, method)
        bottom = len(rows) * cell
        self._rect(left, self.y, len(labels) * cell, bottom, "frame")
        self.y += bottom + 24
        self._scale(left, method, largest)

    def _scale(self, x: float, method: MethodResult, largest: float) -> None:
        """Draw the colors of the alignment from its smallest to its largest score."""
        for number in range(12):
            if method.is_signed:
                value = (number - 5.5) / 5.5
                kind = "against" if value < 0 else "for"
                more = {"fill_opacity": f"{abs(value):.2f}"}
            else:
                kind, more = f"scale-{number * len(style.SCALE) // 12}", {}
            self._rect(x + 10 * number, self.y - 8, 10, 8, kind, **more)
        smallest = number_text(-largest) if method.is_signed else "0"
        bounds = f"{smallest} to {number_text(largest)} {method.unit}"
        self._text(x + 136, self.y, bounds, "small")

    def _cell(
        self,
        x: float,
        y: float,
        cell: float,
        score: float | None,
        largest: float,
        method: MethodResult,
    ) -> None:
        score = score or 0.0
        strength = abs(score) / largest
        if strength < 0.005:
            return
        gap = 0.5 if cell >= 16 else 0.0
        if method.is_signed:
            kind, more = ("against" if score < 0 else "for"), {"fill_opacity": f"{strength:.3f}"}
        else:
            step = min(len(style.SCALE) - 1, int(strength * len(style.SCALE)))
            kind, more = f"scale-{step}", {}
        self._rect(x + gap, y + gap, cell - 2 * gap, cell - 2 * gap, kind, **more)


def _style_sheet() -> str:
    """Return the styles, with the colors of a light page and of a dark one."""
    fills = {
        "page": style.PAGE,
        "word": style.INK,
        "title": style.INK,
        "brand": style.ACCENT,
        "first": style.ACCENT,
        "muted": style.MUTED,
        "small": style.MUTED,
        "chosen": style.WIDE_BAND,
        "line": style.ACCENT,
        "positive": style.ACCENT,
        "amount": style.ACCENT,
        "negative": style.SECOND,
        "for": style.ACCENT,
        "against": style.SECOND,
        "other": style.MUTED,
        "doubtful": style.GRID,
        "axis": style.GRID,
        **{f"scale-{number}": color for number, color in enumerate(style.SCALE)},
    }
    light = "".join(f".{name}{{fill:{color.light}}}" for name, color in fills.items())
    dark = "".join(f".{name}{{fill:{color.dark}}}" for name, color in fills.items())
    return (
        f"text{{font-family:{_FONTS}}}.word{{font-size:16px}}.small,.first{{font-size:11px}}"
        ".other{opacity:.7}.muted{font-size:13px}.title{font-size:14px;font-weight:600}"
        ".brand{font-size:16px;font-weight:600}.first{font-weight:600}"
        f".frame{{fill:none;stroke:{style.GRID.light}}}{light}"
        f"@media (prefers-color-scheme:dark){{{dark}.frame{{stroke:{style.GRID.dark}}}}}"
    )


def _text_width(text: str, size: float) -> float:
    """Return about how wide a text is in the font of a system.

    >>> _text_width("ill", 10) < _text_width("owl", 10) < _text_width("水水水", 10)
    True
    """
    total = 0.0
    for char in text:
        if unicodedata.category(char) in ("Mn", "Me", "Cf"):
            continue
        if unicodedata.east_asian_width(char) in "WF":
            total += 1.05
        else:
            total += 0.32 if char in _NARROW else 0.9 if char in _WIDE else 0.6
    return total * size
