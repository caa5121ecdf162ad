"""``regard evaluate``: scores with intervals, baselines, and the worst translations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from regard.cli.outputs import escape
from regard.cli.parameters import Flag, Name
from regard.settings.validation import LARGEST, require_range

if TYPE_CHECKING:
    from regard.tasks.classification.evaluation import ClassificationReport
    from regard.tasks.language_modeling.evaluation import TextReport
    from regard.tasks.translation.evaluation import TranslationReport


_LONGEST_TEXT = 60  # characters of a text with a wrong label


def evaluate(
    model: Annotated[str, Name],
    data: Annotated[str, Name],
    *,
    beam: int | None = None,
    compare: Annotated[str | None, Name] = None,
    worst: int = 20,
    drop_overlap: Annotated[bool, Flag] = False,
    allow_overlap: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Score a model on a file, next to baselines and another model.

    Parameters
    ----------
    model
        Folder of a trained model.
    data
        What the model was trained on: a file of sentence pairs, running text or labeled rows, or a
        folder of images or recordings; - reads standard input, for text.
    beam
        Hypotheses in the beam search of a translation; 1 is greedy. The default is each model's:
        4, or that of a published folder.
    compare
        Folder of another model; translations are compared by a paired bootstrap test.
    worst
        Number of worst translations, or of wrong labels, to show.
    drop_overlap
        Drop rows that are also in the training data.
    allow_overlap
        Keep rows that are also in the training data.
    json
        One JSON object instead of text.
    """
    from regard.runs.scoring import evaluate as score
    from regard.tasks.language_modeling.evaluation import TextReport
    from regard.tasks.translation.evaluation import TranslationReport

    require_range("--worst", worst, 0, LARGEST)
    start_time = time.monotonic()
    report, predictor = score(
        model,
        data,
        compare=compare,
        beam=beam,
        num_worst=worst,
        drop_overlap=drop_overlap,
        allow_overlap=allow_overlap,
    )
    if json:
        task = predictor.config.task if predictor.config else ""
        fields = _json_fields(report) | {"seconds": time.monotonic() - start_time}
        print(msgspec.json.encode({"task": task, **fields}).decode())
    elif isinstance(report, TranslationReport):
        assert predictor.config is not None
        beam = predictor.config.search.beam if beam is None else beam
        _print_translation_report(report, beam, compare)
    elif isinstance(report, TextReport):
        _print_text_report(report, compare)
    else:
        _print_labels_report(report, compare)


def _json_fields(report: TranslationReport | TextReport | ClassificationReport) -> dict[str, Any]:
    """Return a report with the fields that all tasks share: rows, scores, floors, worst."""
    from regard.tasks.language_modeling.evaluation import TextReport
    from regard.tasks.translation.evaluation import TranslationReport

    fields: dict[str, Any] = msgspec.to_builtins(report)
    if isinstance(report, TranslationReport):
        floors = {"copy_chrf": report.copy_chrf, "neighbour_chrf": report.neighbour_chrf}
        return fields | {"rows": report.num_pairs, "floors": floors}
    if isinstance(report, TextReport):
        scores = {"perplexity": report.perplexity, "bits_per_byte": report.bits_per_byte}
        intervals = {name: _interval(value) for name, value in scores.items()}
        floors = {"byte_entropy": report.byte_entropy, "compressed": report.compressed}
        num_rows, value, floor = report.num_lines, report.bits_per_byte, report.compressed
        verdict = "below xz" if value < floor else "not below xz"
    else:
        accuracy = _interval(report.accuracy, report.accuracy_low, report.accuracy_high)
        intervals = {"accuracy": accuracy, "macro_f1": _interval(report.macro_f1)}
        floors = {"majority": report.majority}
        num_rows, value, floor = report.num_inputs, report.accuracy_low, report.majority
        name = "the most frequent label"
        verdict = f"above {name}" if value > floor else f"not above {name}"
    shared = {"rows": num_rows, "scores": intervals, "floors": floors, "verdict": verdict}
    return {"worst": []} | fields | shared


def _interval(
    value: float, low: float | None = None, high: float | None = None
) -> dict[str, float | None]:
    """Return a score with its 95 % interval, where it has one."""
    return {"value": value, "low": low, "high": high}


def _print_labels_report(report: ClassificationReport, other: str | None) -> None:
    print(f"Data    {report.path}   {report.num_inputs:,} {report.unit}   model {report.model}")
    print(
        f"Right   {report.accuracy:.1f} % [{report.accuracy_low:.1f}, {report.accuracy_high:.1f}]"
        f"   macro F1 {report.macro_f1:.1f}   loss {report.loss:.3f}"
    )
    print(f"Floors  most frequent label {report.majority:.1f} %")
    if report.compared is not None:
        difference = report.accuracy - report.compared
        print(f"Compare {report.model} against {other}: {difference:+.1f} points")
    for entry in report.worst:
        labels = f"{escape(entry.label)}, taken for {escape(entry.predicted)}"
        text = f"   {escape(entry.text[:_LONGEST_TEXT])}" if entry.text else ""
        print(f"Worst   {entry.where}   {labels} ({entry.probability:.2f}){text}")


def _print_text_report(report: TextReport, other: str | None) -> None:
    print(f"Data    {report.path}   {report.num_chars:,} characters   model {report.model}")
    print(
        f"Loss    {report.loss:.3f} nats/token   perplexity {report.perplexity:.2f}   "
        f"{report.bits_per_byte:.3f} bits/byte"
    )
    print(
        f"Floors  single bytes {report.byte_entropy:.3f} bits/byte   "
        f"xz {report.compressed:.3f} bits/byte"
    )
    if report.compared is not None:
        difference = report.bits_per_byte - report.compared
        print(f"Compare {report.model} against {other}: {difference:+.3f} bits/byte")


def _print_translation_report(report: TranslationReport, beam: int, other: str | None) -> None:
    print(
        f"Data    {report.path}   {report.num_pairs:,} pairs   model {report.model}   beam {beam}"
    )
    for name, score in (("chrF", report.scores.chrf), ("BLEU", report.scores.bleu)):
        print(
            f"{name}    {score.value:.1f} [{score.low:.1f}, {score.high:.1f}]   {score.signature}"
        )
    neighbor = report.neighbour_chrf
    nearest = "training data not at hand" if neighbor is None else f"{neighbor:.1f} chrF"
    print(
        f"Floors  copying the source {report.copy_chrf:.1f} chrF   "
        f"nearest training sentence {nearest}"
    )
    print(f"Verdict {report.verdict}")
    print(
        f"Latency p50 {1000 * report.latency_p50:.0f} ms   "
        f"p95 {1000 * report.latency_p95:.0f} ms   (one sentence at a time)"
    )
    for entry in report.worst:
        print(f"Worst   line {entry.line:,}   chrF {entry.chrf:.1f}")
        print(f"        source  {entry.source}")
        print(f"        output  {entry.output}")
        print(f"        wanted  {entry.reference}")
    if report.comparison is not None:
        print(f"Compare {report.model} against {other}, paired bootstrap")
        for name, paired in (("chrF", report.comparison.chrf), ("BLEU", report.comparison.bleu)):
            interval = f"[{paired.low:+.1f}, {paired.high:+.1f}]"
            difference = f"{paired.difference:+.1f} {interval}   p = {paired.p_value:.3f}"
            print(f"        {name} {difference}")
