"""The report of an evaluation: scores, charts, worst rows and stability, in one HTML file.

The page has no script, asks for nothing, and shows texts of the data as text. Its charts are SVG,
each with a table of its figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from regard.data.listing import pluralize
from regard.errors import WeightsError
from regard.explain.page.self_contained import static_file
from regard.explain.report.attributed_words import attribute_words, draw_cells, draw_words
from regard.explain.report.charts import (
    Bar,
    bar_chart,
    binned_chart,
    confusion_chart,
    level_chart,
    reliability_chart,
)
from regard.explain.report.forecast_chart import forecast_chart
from regard.explain.report.layer_heatmap import heat_chart
from regard.explain.report.markup import Markup, join, tag
from regard.explain.report.svg_parts import number_text
from regard.metrics import floor_named, metric_named
from regard.plots.output_files import write_file
from regard.runs.stability import stability_of
from regard.settings.validation import require_kind
from regard.setup.evaluation_details import EvaluationDetails, ScoredRow
from regard.setup.evaluation_report import EvaluationReport
from regard.tasks import Predictor
from regard.training.stability_verdicts import StabilityRecord

_STYLES = ("page.css", "report.css")
_EXPLAINED_ROWS = 5
_MOST_WORDS = 160  # of a text that is shown


class ReportFacts(NamedTuple):
    """What the report says about itself.

    Args:
        task: Task of the model.
        model: Its folder.
        day: Day of the evaluation, ``2026-11-29``; empty for today.
    """

    task: str
    model: str
    day: str = ""


def report_html(
    report: EvaluationReport, facts: ReportFacts, predictor: Predictor | None = None
) -> str:
    """Return the report of an evaluation as the text of an HTML file.

    Args:
        report: With its details.
        facts: Task and folder of the model.
        predictor: The model, by which the worst rows are explained; None leaves that out.

    Returns:
        The page.

    Raises:
        TypeError: `report` or `facts` is something else.
    """
    require_kind("report", report, EvaluationReport, "what `regard.evaluate` returns")
    require_kind("facts", facts, ReportFacts, "a `ReportFacts`")
    details = report.details or EvaluationDetails()
    day = facts.day or f"{datetime.now(UTC):%Y-%m-%d}"
    body = [
        tag(
            "header",
            tag("h1", tag("span", "regard", class_="brand"), f"evaluation of {report.model}"),
            tag(
                "p",
                f"{facts.task} · {report.path} · {pluralize(report.num_rows, 'row')} · {day}",
                class_="facts",
            ),
        ),
        _scores(report),
        _charts(details),
        _worst_forecasts(details)
        if details.forecasts
        else _worst(details.worst, predictor, has_rows=report.num_rows > 0),
        _stability(facts.model),
        tag(
            "footer",
            "Intervals are of 95 %.  Attributions say what moved this output of this model; they "
            "are no proof of how it works.",
        ),
    ]
    title = f"regard · evaluation of {report.model} · {report.path}"
    return static_file(title=title, styles=_STYLES, body=join(body))


def _scores(report: EvaluationReport) -> Markup:
    """Return the verdict, every score as a tile, and those with floors as bars."""
    # Those that can be compared with a floor come first.
    scores = sorted(report.intervals.items(), key=lambda item: not any(_floors_of(report, item[0])))
    figures = [
        _next_to_floors(name, score, floors)
        for name, score in scores
        if (floors := list(_floors_of(report, name))) and score["value"] is not None
    ]
    notes = [
        f"{report.floor_title(name)}: the training data is not at hand."
        for name, value in report.floors.items()
        if value is None
    ]
    return tag(
        "section",
        tag("h2", "Scores"),
        tag("p", f"Verdict: {report.verdict}", class_="verdict"),
        tag("div", *(_tile(name, score) for name, score in scores), class_="tiles"),
        _panels(figures),
        *_notes(notes),
        *_printed(report),
    )


def _next_to_floors(
    name: str, score: Mapping[str, float], floors: Sequence[tuple[str, float]]
) -> Markup:
    """Return a score as a bar above those of its floors."""
    own = Bar("this model", score["value"], score.get("low"), score.get("high"), True)
    metric = metric_named(name)
    bars = [own, *(Bar(floor, value) for floor, value in floors)]
    return bar_chart(bars, metric.heading).figure(
        f"{metric.heading} next to what needs no training",
        "Lower is better." if metric.is_better_lower else None,
    )


def _panels(figures: Sequence[Markup]) -> Markup:
    """Return figures as panels, two a row."""
    return tag("div", *(tag("div", figure, class_="panel") for figure in figures), class_="panels")


def _notes(notes: Sequence[str]) -> Iterator[Markup]:
    """Yield sentences as paragraphs."""
    for note in notes:
        yield tag("p", note, class_="note")


def _tile(name: str, score: Mapping[str, float | None]) -> Markup:
    """Return a score in large digits with its interval, or with what is better."""
    low, high = score.get("low"), score.get("high")
    interval = "" if low is None else f"{number_text(low)} – {number_text(high)}"
    metric = metric_named(name)
    better = "lower is better" if metric.is_better_lower else ""
    return tag(
        "div",
        tag("div", metric.heading, class_="tile-name"),
        tag("div", number_text(score["value"]), class_="tile-value"),
        tag("div", interval or better or "\N{NO-BREAK SPACE}", class_="tile-interval"),
        class_="tile",
    )


def _printed(report: EvaluationReport) -> Iterator[Markup]:
    """Yield the comparison with another model, and what the command prints but the worst rows."""
    lines: list[str] = []
    comparison: list[str] = []
    section = ""
    for title, text in report.lines():
        section = title or section
        if section == "Compare":
            comparison.append(text)
        if section != "Worst":
            lines.append(f"{title:<8}{text}")
    if comparison:
        yield tag("h3", f"Compared with {report.other}")
        yield tag("pre", "\n".join(comparison))
    content = tag("div", tag("pre", "\n".join(lines)), class_="scroll", tabindex="0")
    yield tag("details", tag("summary", "as printed"), content, class_="twin")


def _floors_of(report: EvaluationReport, score: str) -> Iterator[tuple[str, float]]:
    """Yield title and value of the floors of a score."""
    for name, value in report.floors.items():
        if floor_named(name).metric == score and value is not None:
            yield report.floor_title(name), value


def _charts(details: EvaluationDetails) -> Markup | None:
    """Return what the scores depend on, calibration and confusion, two panels a row."""
    figures = [binned_chart(c.picture).figure(c.title, c.note) for c in details.charts]
    draw = {True: level_chart, False: reliability_chart}
    figures += [draw[c.has_levels](c).figure(c.title, c.note) for c in details.calibrations]
    if details.confusion is not None:
        note = "A row is a true label; the color is the fraction of the row, the number a count."
        figures.append(confusion_chart(details.confusion).figure("Confusion", note))
    if not figures and not details.notes:
        return None
    return tag(
        "section",
        tag("h2", "Where it goes wrong"),
        _panels(figures),
        *_notes(details.notes),
    )


def _worst(
    rows: Sequence[ScoredRow], predictor: Predictor | None, *, has_rows: bool
) -> Markup | None:
    """Return the worst rows, the first ones with what they looked at."""
    if not rows:
        text = "No row is wrong." if has_rows else "There are no rows."
        return tag("section", tag("h2", "Worst rows"), tag("p", text, class_="note"))
    cards, methods = [], set[str]()
    for number, row in enumerate(rows):
        words, method = _explained(row, predictor if number < _EXPLAINED_ROWS else None)
        cards.append(_card(row, words))
        methods |= method
    note = None
    if methods:
        note = tag(
            "p",
            "Colors of the first rows: ",
            tag("span", "speaks for the output", class_="w for6"),
            " ",
            tag("span", "speaks against it", class_="w against6"),
            f"  ({', '.join(sorted(methods))}, over the whole output; hover for the figure).",
            class_="note",
        )
    return tag("section", tag("h2", "Worst rows"), note, tag("ol", *cards, class_="rows"))


def _explained(row: ScoredRow, predictor: Predictor | None) -> tuple[Markup | None, set[str]]:
    """Return what a row looked at, if that is known, and the method that says so."""
    if predictor is None or row.explained is None:
        return None, set()
    attributed = attribute_words(predictor, row.explained)
    if isinstance(attributed, str):
        return tag("p", attributed, class_="note"), set()
    file, is_file = Path(row.explained.text), row.explained.is_file
    words = draw_cells(attributed, file) if is_file else draw_words(attributed)
    return words, {attributed.method}


def _worst_forecasts(details: EvaluationDetails) -> Markup:
    """Return the worst windows as pictures, two a row."""
    figures = [forecast_chart(panel).figure(panel.title) for panel in details.forecasts]
    return tag("section", tag("h2", "Worst forecasts"), _panels(figures))


def _card(row: ScoredRow, words: Markup | None) -> Markup:
    texts = []
    for role, text in row.texts.items():
        beginning, num_more = _cut(text)
        more = tag("span", f" … {num_more:,} more words", class_="muted") if num_more else None
        content = [beginning if beginning.strip() else tag("span", "(empty)", class_="muted"), more]
        texts += [tag("dt", role), tag("dd", *content, dir="auto")]
    return tag(
        "li",
        tag("p", tag("span", row.where, class_="where"), tag("span", row.score, class_="score")),
        tag("dl", *texts),
        words,
        class_="card",
    )


def _cut(text: str) -> tuple[str, int]:
    """Return the beginning of a text, and the number of words that are left out."""
    words = text.split(" ")
    if len(words) <= _MOST_WORDS:
        most = 12 * _MOST_WORDS  # a text without spaces
        return (text, 0) if len(text) <= most else (text[:most], 1)
    return " ".join(words[:_MOST_WORDS]), len(words) - _MOST_WORDS


def _stability(folder: str) -> Markup:
    """Return what the record of the model's run says, or why there is none."""
    heading = tag("h2", "Stability of the run")
    try:
        record = stability_of(folder)
    except WeightsError as error:
        return tag("section", heading, tag("p", str(error), class_="note"))
    return tag("section", heading, *_stability_panels(record))


def _stability_panels(record: StabilityRecord) -> Iterator[Markup]:
    if record.verdicts:
        items = (tag("li", sentence) for sentence in record.sentences())
        yield tag("ul", *items, class_="problems")
    else:
        yield tag("p", *record.sentences(), class_="verdict")
    marks = [(verdict.layer, verdict.step) for verdict in record.verdicts]
    figures_of_run = []
    for title, figures in (
        ("Gradient norm, before clipping", record.gradient_norms),
        ("Norm of the update / norm of the weights", record.update_ratios),
    ):
        chart = heat_chart(record.layers, record.steps, figures, marks, title)
        figures_of_run.append(chart.figure(title))
    yield _panels(figures_of_run)


def save_report(page: str, path: str | Path) -> None:
    """Write a page as one file; it appears complete or not at all.

    Args:
        page: From `report_html`.
        path: The file.

    Raises:
        ConfigError: The file cannot be written.
        ResourceError: The disk is full, or fails.
    """
    write_file(path, page.encode())
