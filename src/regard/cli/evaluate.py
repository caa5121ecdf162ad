"""``regard evaluate``: scores with intervals, floors, a verdict, the worst sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

if TYPE_CHECKING:
    from regard.metrics.translation import PairedScores
    from regard.tasks.evaluation import EvaluationReport

Flag = Parameter(negative=())


def evaluate(
    model: str,
    data: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    beam: int = 4,
    compare: str | None = None,
    worst: int = 20,
    drop_overlap: Annotated[bool, Flag] = False,
    allow_overlap: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
) -> int:
    """Score a model on a file of pairs, beside floors and another model.

    Parameters
    ----------
    model
        Folder of a trained model.
    data
        File of sentence pairs, or - for standard input.
    beam
        Hypotheses kept in the search; 1 is greedy.
    compare
        Folder of another model, for a paired bootstrap test.
    worst
        Number of worst translations to show.
    drop_overlap
        Leave out pairs whose source also stands in the training data.
    allow_overlap
        Keep them.
    json
        One JSON object instead of text.
    """
    from regard.tasks.evaluation import evaluate_model, read_test_pairs
    from regard.tasks.translator import Translator

    translator = Translator.open(model)
    other = Translator.open(compare) if compare is not None else None
    pairs = read_test_pairs(
        data, translator, drop_overlap=drop_overlap, allow_overlap=allow_overlap
    )
    report = evaluate_model(translator, pairs, name=model, beam=beam, other=other, num_worst=worst)
    if json:
        print(msgspec.json.encode(report).decode())
        return 0
    _print_report(report, beam)
    if report.comparison is not None:
        _print_comparison(report.comparison, model, str(compare))
    return 0


def _print_report(report: EvaluationReport, beam: int) -> None:
    print(
        f"Data    {report.path}   {report.num_pairs:,} pairs   model {report.model}   beam {beam}"
    )
    for name, score in (("chrF", report.scores.chrf), ("BLEU", report.scores.bleu)):
        print(
            f"{name}    {score.value:.1f} [{score.low:.1f}, {score.high:.1f}]   {score.signature}"
        )
    neighbour = (
        "training data not at hand"
        if report.neighbour_chrf is None
        else f"{report.neighbour_chrf:.1f} chrF"
    )
    print(
        f"Floors  copying the source {report.copy_chrf:.1f} chrF   "
        f"nearest training sentence {neighbour}"
    )
    print(f"Verdict {report.verdict}")
    print(
        f"Latency p50 {1000 * report.latency_p50:.0f} ms   "
        f"p95 {1000 * report.latency_p95:.0f} ms   (one sentence at a time)"
    )
    for entry in report.worst:
        print(f"Worst   line {entry.line:,}   chrF {entry.chrf:.1f}")
        for label, text in (
            ("source", entry.source),
            ("output", entry.output),
            ("wanted", entry.reference),
        ):
            print(f"        {label}  {text}")


def _print_comparison(comparison: PairedScores, model: str, other: str) -> None:
    print(f"Compare {model} against {other}, paired bootstrap")
    for name, paired in (("chrF", comparison.chrf), ("BLEU", comparison.bleu)):
        print(
            f"        {name} {paired.difference:+.1f} [{paired.low:+.1f}, {paired.high:+.1f}]   "
            f"p = {paired.p_value:.3f}"
        )
