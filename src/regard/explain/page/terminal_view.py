"""An explanation as lines of a terminal: alignment, scores, and how far to trust them."""

from __future__ import annotations

import math
import shutil
import statistics
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from regard.explain.document import (
    Explanation,
    MethodResult,
    Retraining,
    TrainingInfluence,
    require_explanation,
)
from regard.explain.page.token_text import (
    count_with_unit,
    has_converged,
    measure_text,
    number_text,
    printable,
    probability_of,
    short_texts,
    token_label,
)
from regard.option_checks import require_whole

CAVEAT = (
    "Attention shows where information may flow, not why.  A head's effect here is the change in"
)
"""The beginning of what every explanation says of itself."""

_SHADES = (" ", "░", "▒", "▓", "█")
_NEGATIVE = (" ", "·", "-", "=", "#")  # against the output, where there are no colors
_JOINER = "\N{ZERO WIDTH JOINER}"
_NARROWEST = 40
_LABEL = 14  # columns of a word before its row
_TALLEST_LABEL = 12  # characters of a word above its column
_MOST_COLUMNS = 120  # words of an alignment; of more, each output's strongest are listed
_NUM_STRONGEST = 4
_MOST_WORDS = 200  # of an input
_MOST_BARS = 24
_BAR = 32
_SMALLEST_PART = 1e-3  # of the largest score; smaller ones are left out
_LARGEST_ERROR = 0.01  # of scores that are said to sum to the change


def format_text(explanation: Explanation, width: int | None = None) -> str:
    """Return an explanation as plain lines.

    Args:
        explanation: Explanation of a prediction, of any task.
        width: Width of a line, in columns; None takes that of the terminal.
    """
    return terminal_text(explanation, width).plain


def terminal_text(explanation: Explanation, width: int | None = None) -> Text:
    """Return an explanation as lines with colors, which rich leaves out where there are none.

    Args:
        explanation: Explanation of a prediction, of any task.
        width: Width of a line, in columns; None takes that of the terminal.
    """
    require_explanation(explanation)
    if width is not None:
        require_whole("width", width, 1)
    width = max(_NARROWEST, width or shutil.get_terminal_size((100, 24)).columns)
    lines = [Text(_header(explanation)), *_inputs(explanation), *_outputs(explanation)]
    lines += [Text(f"Note    {note}") for note in explanation.notes]
    if explanation.methods:
        lines += [Text(), *_scores(explanation, width), Text(), *_figures(explanation)]
    if explanation.influence is not None:
        lines += [Text(), *_influence(explanation.influence, width)]
        if explanation.influence.retraining is not None:
            lines.append(_retraining(explanation, explanation.influence.retraining))
    changed = "log-probability" if explanation.unit == "nats" else "the outputs"
    sentence = f"{CAVEAT} {changed} when it is removed."
    caveat = (Text(line, style="dim") for line in textwrap.wrap(sentence, width))
    return Text("\n").join([*lines, *caveat])


def _header(explanation: Explanation) -> str:
    model = explanation.model
    facts = (
        *(model.name, model.task.replace("_", " "), model.family),
        count_with_unit(model.num_parameters),
        f"explained {model.explained}",
        model.search,
    )
    return " · ".join(filter(None, facts))


def _inputs(explanation: Explanation) -> Iterator[Text]:
    """Write each part of the input."""
    for part in dict.fromkeys(f.part for f in explanation.input if not f.is_written):
        words = [token_label(f.text) for f in explanation.input if f.part == part]
        left_out = len(words) - _MOST_WORDS
        more = f" … and {left_out:,} more" if left_out > 0 else ""
        yield Text(f"{part:7s} {' '.join(words[:_MOST_WORDS])}{more}")


def _outputs(explanation: Explanation) -> Iterator[Text]:
    """Write the outputs with their probabilities, and what they are compared with."""
    line = Text("output ")
    for output in explanation.output:
        line.append(f" {token_label(output.text)}", style="bold")
        probability = probability_of(output.score, explanation.unit)
        if probability is not None:
            line.append(f" {probability:.2f}".replace(" 0.", " ."), style="dim")
        elif explanation.unit != "nats":
            line.append(f" {number_text(output.score)}", style="dim")
    yield line
    if explanation.contrast is not None:
        yield Text(f"        compared with {explanation.contrast}")


def _scores(explanation: Explanation, width: int) -> Iterator[Text]:
    """Draw the scores of the first method as their number allows."""
    method, *_ = explanation.shown_methods()
    if len(explanation.output) == 1:
        return _bars(explanation, method)
    if len(explanation.read_features()) <= _MOST_COLUMNS:
        return _alignment(explanation, method, width)
    return _strongest(explanation, method)


def _alignment(explanation: Explanation, method: MethodResult, width: int) -> Iterator[Text]:
    """Draw outputs by words of the input, with the words from top to bottom above their columns."""
    columns = explanation.read_features()
    inputs, outputs = short_texts(explanation)
    largest = method.largest(columns)
    yield Text(f"Alignment by {method.title}   {_scale(method, largest)}", style="bold")
    room = (width - _LABEL - 1) // 2
    for start in range(0, len(columns), room):
        part = columns[start : start + room]
        for above in _from_top_to_bottom([token_label(inputs[index]) for index in part]):
            yield Text(" " * (_LABEL + 1) + above, style="dim")
        for output, row in zip(outputs, method.scores, strict=True):
            text = Text(_right(token_label(output), _LABEL) + " ")
            for index in part:
                text.append(*_cell(row[index], largest))
            yield text


def _from_top_to_bottom(labels: Sequence[str]) -> Iterator[str]:
    """Yield the lines of labels that are written downwards and end on the last line."""
    columns = [_characters(label) for label in labels]
    height = max(map(len, columns))
    for line in zip(*([" "] * (height - len(column)) + column for column in columns), strict=True):
        yield "".join(_fit(char, 2) for char in line)


def _characters(label: str) -> list[str]:
    """Divide a label into characters with the marks that belong to each; cut off a long one."""
    characters: list[str] = []
    for char in label:
        is_part = unicodedata.category(char) in ("Mn", "Mc", "Me", "Cf")
        if characters and (is_part or characters[-1].endswith(_JOINER)):
            characters[-1] += char
        else:
            characters.append(char)
    if len(characters) <= _TALLEST_LABEL:
        return characters
    return [*characters[: _TALLEST_LABEL - 1], "…"]


def _scale(method: MethodResult, largest: float) -> str:
    shades = "".join(_SHADES[1:])
    if not method.is_signed:
        return f"{shades} to {number_text(largest)} {method.unit}"
    against = "".join(reversed(_NEGATIVE[1:]))
    return f"{against} against, {shades} for: to {number_text(largest)} {method.unit}"


def _cell(value: float | None, largest: float) -> tuple[str, str]:
    """Return two columns of text for a score, and their style."""
    if value is None:
        return "  ", ""
    step = min(4, int(abs(value) / largest * 4.999))
    if value < 0:
        return 2 * _NEGATIVE[step], "dark_orange3"
    return 2 * _SHADES[step], "slate_blue1"


def _bars(explanation: Explanation, method: MethodResult) -> Iterator[Text]:
    """Draw the scores of one output as bars, in the order of the input."""
    (row,) = method.scores
    scores, largest = _by_size(row), method.largest(range(len(row)))
    largest_first = [
        i for i in [*scores][:_MOST_BARS] if abs(scores[i]) >= _SMALLEST_PART * largest
    ]
    left_out = len(scores) - len(largest_first)
    title = f"Why {token_label(explanation.output[0].text)!r}   {method.title}, {method.unit}"
    title += "   (▒ against)" if min(scores.values(), default=0.0) < 0 else ""
    yield Text(title + (f"   without {left_out:,} smaller scores" if left_out > 0 else ""), "bold")
    for index in sorted(largest_first):
        yield _bar(token_label(explanation.input[index].text), scores[index], largest)


def _by_size(row: Sequence[float | None]) -> dict[int, float]:
    """Return the scores of an output by feature, the largest magnitude first."""
    scores = [(index, value) for index, value in enumerate(row) if value is not None]
    return dict(sorted(scores, key=lambda item: -abs(item[1])))


def _bar(label: str, value: float, largest: float) -> Text:
    eighths = round(abs(value) / largest * _BAR * 8)
    bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
    if value < 0:  # of another shade, for readers without colors
        bar = "▒" * math.ceil(eighths / 8)
    text = Text(_right(label, _LABEL) + " ")
    text.append(bar, style="dark_orange3" if value < 0 else "slate_blue1")
    return text.append(f" {number_text(value)}")


def _strongest(explanation: Explanation, method: MethodResult) -> Iterator[Text]:
    """List the words with the largest scores for each output of a long input."""
    yield Text(f"Largest scores by {method.title}, {method.unit}", style="bold")
    for output, row in zip(explanation.output, method.scores, strict=True):
        words = ", ".join(
            f"{index + 1} {token_label(explanation.input[index].text, _LABEL)} {number_text(score)}"
            for index, score in [*_by_size(row).items()][:_NUM_STRONGEST]
        )
        yield Text(f"{_right(token_label(output.text), _LABEL)} {words}")


def _figures(explanation: Explanation) -> Iterator[Text]:
    """Write how faithful each method is, next to random scores, and the control."""
    measured = [
        (method.title, list(method.faithfulness.next_to_random()))
        for method in explanation.shown_methods()
        if method.faithfulness is not None
    ]
    if measured:
        floors = {tuple(floor for _, _, floor in figures) for _, figures in measured}
        yield Text(f"{'':21s} comprehensiveness  sufficiency     tau", "dim")
        for title, figures in measured:
            row = _measures(title, (value for _, value, _ in figures))
            if len(floors) > 1:
                floor_texts = " ".join(measure_text(floor) for _, _, floor in figures)
                row.append(f"   (random {floor_texts})")
            yield row
        if len(floors) == 1:
            yield _measures("random scores", *floors)
    for result in explanation.methods.values():
        if result.error is not None:
            yield _error(result, result.error)
    if explanation.control_similarity is not None:
        similarity = measure_text(explanation.control_similarity)
        yield Text(f"Control with shuffled weights: rank correlation {similarity}.")


def _measures(title: str, values: Iterable[float | None]) -> Text:
    """Write a row of the table of measures."""
    cells = zip(values, (18, 13, 8), strict=True)
    numbers = "".join(f"{measure_text(value):>{size}s}" for value, size in cells)
    return Text(f"{title:21s}{numbers}")


def _error(result: MethodResult, error: float) -> Text:
    """Write how far the scores of a method are from the change that they explain."""
    steps = f" ({result.steps} steps)" if result.steps else ""
    more = ""
    if error > _LARGEST_ERROR:
        more = "; its scores do not sum to the change that they explain"
    if not has_converged(result):
        more += ": it has not converged, leave it out"
    return Text(f"Error of {result.title}: {100 * error:.1f} % of the total{steps}{more}.")


def _influence(influence: TrainingInfluence, width: int) -> Iterator[Text]:
    """Write the training rows that an output owes most to, and what training again has shown."""
    yield Text(
        f"Training rows   {influence.data}, {influence.num_rows:,} {influence.unit}: together "
        f"+{number_text(influence.total_helpful)} and {number_text(influence.total_harmful)} nats "
        f"({influence.num_products:,} products with the curvature, {influence.seconds:.0f} s)",
        style="bold",
    )
    for title, rows in (
        ("Without them the output would be less probable", influence.helpful),
        ("Without them it would be more probable", influence.harmful),
    ):
        if rows:
            yield Text(title, style="dim")
        columns = max((cell_len(row.location) for row in rows), default=0)
        for row in rows:
            text = Text(f"{_signed(row.influence):>9s}  ")
            text.stylize("dark_orange3" if row.influence < 0 else "slate_blue1")
            parts = [row.target, "" if row.text == row.location else row.text]
            texts = "  |  ".join(printable(" ".join(part.split())) for part in parts if part)
            text.append(_fit(printable(row.location), columns), style="dim")
            yield text.append("  " + _shortened(texts, max(20, width - columns - 13)))


def _retraining(explanation: Explanation, retraining: Retraining) -> Text:
    """Write what training again without rows has shown."""
    complete = statistics.fmean(retraining.complete)
    times = "once" if len(retraining.complete) == 1 else f"{len(retraining.complete):,} times"
    score = "log-probability" if explanation.contrast is None else "log-probability over contrast"
    return Text(
        f"Trained again, each {times}: {score} {number_text(complete)} with all rows, "
        f"{number_text(statistics.fmean(retraining.without_most_influential))} without the "
        f"{retraining.num_left_out:,} of most influence (estimate "
        f"{number_text(complete - retraining.estimate)}), "
        f"{number_text(statistics.fmean(retraining.without_random))} without as many random ones."
    )


def _signed(value: float) -> str:
    return f"+{number_text(value)}" if value > 0 else number_text(value)


def _shortened(text: str, columns: int) -> str:
    """Return a text of this many columns at most."""
    return text if cell_len(text) <= columns else _fit(text, columns - 1).rstrip() + "…"


def _fit(text: str, columns: int) -> str:
    return set_cell_size(text, columns)


def _right(text: str, columns: int) -> str:
    """Put a text at the right end of a number of columns; a longer one loses its end."""
    size = cell_len(text)
    return " " * (columns - size) + text if size <= columns else _fit(text, columns - 1) + "…"
