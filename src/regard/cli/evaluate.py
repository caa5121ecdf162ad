"""``regard evaluate``: scores with intervals, floors, and the worst rows."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

from regard.cli.model_options import WRITING_DEFAULTS, WritingOptions
from regard.cli.outputs import as_json, escape
from regard.cli.parameters import Flag, Name
from regard.cli.progress import show_stages
from regard.cli.torchrun import join_run, runs_on_all_ranks
from regard.errors import ConfigError
from regard.settings.validation import LARGEST, require_range

if TYPE_CHECKING:
    from regard.setup.evaluation_report import EvaluationReport
    from regard.tasks import Predictor


def evaluate(
    model: Annotated[str, Name],
    data: Annotated[str, Name],
    *,
    beam: int | None = None,
    lang: str | None = None,
    compare: Annotated[str | None, Name] = None,
    worst: int = 20,
    plot: Annotated[str | None, Name] = None,
    html: Annotated[str | None, Name] = None,
    compute: WritingOptions = WRITING_DEFAULTS,
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
        What the model was trained on: a file of sentence pairs, documents with summaries, questions
        on texts, series with times, running text or labeled rows, or a folder of images or
        recordings; - reads standard input, for text and series.
    beam
        Hypotheses in the beam search of an output; 1 is greedy. The default is each model's: 4, or
        that of a published folder.
    lang
        Languages such as en-de of sentence pairs, for a translator of many languages and for a T5;
        by default they are guessed by the name of the file or its text.
    compare
        Folder of another model; outputs are compared by a paired bootstrap test.
    worst
        Number of worst outputs or lines, or of wrong labels, to show.
    plot
        File of a picture, .svg, .png or .pdf: the confusion and the reliability of a classifier,
        the score by length of a model that translates, summarizes or answers, or rolling forecasts.
    html
        File of a page, .html, with all scores, charts, the worst rows and what they looked at.
    compute
        What computes the outputs.
    drop_overlap
        Drop rows that are also in the training data.
    allow_overlap
        Keep rows that are also in the training data.
    json
        One JSON object instead of text.
    """
    from regard.runs.scoring import Decoding
    from regard.runs.scoring import evaluate as score
    from regard.training.device import use_threads
    from regard.training.distribution import ALONE

    require_range("--worst", worst, 0, LARGEST)
    use_threads(compute.threads)
    _require_page(html)
    start_time = time.monotonic()
    is_shared = runs_on_all_ranks(["evaluate", model, data, compare, plot, html])
    with join_run() if is_shared else nullcontext() as launch:
        world = ALONE if launch is None else launch.world
        with show_stages() if world.is_first else nullcontext():
            report, task, predictor = score(
                model,
                data,
                compare=compare,
                decoding=Decoding(beam, compute.precision, lang or ""),
                device=compute.device,
                num_worst=worst,
                drop_overlap=drop_overlap,
                allow_overlap=allow_overlap,
                plot=plot,
                has_details=html is not None,
                world=world,
            )
        if not world.is_first:
            return
        _print(report, task, time.monotonic() - start_time, json=json)
        if plot is not None:  # last: a full disk costs no scores
            report.draw(plot)
            print(f"{plot}: drawn", file=sys.stderr)
        if html is not None:
            _write_page(report, html, model, task, predictor)


def _print(report: EvaluationReport, task: str, seconds: float, *, json: bool) -> None:
    """Print a report as lines, or as one object."""
    if json:
        fields = report.json_fields() | {"seconds": seconds}
        print(as_json({"task": task, **fields}))
        return
    for title, text in report.lines():
        print(escape(f"{title:<7} {text}"))


def _write_page(
    report: EvaluationReport, path: str, model: str, task: str, predictor: Predictor
) -> None:
    """Write the page of a report, with what the model looked at in the worst rows."""
    from regard.explain.report import ReportFacts, report_html, save_report

    save_report(report_html(report, ReportFacts(task=task, model=model), predictor), path)
    print(f"{path}: written", file=sys.stderr)


def _require_page(path: str | None) -> None:
    """Check that a page can be written, before the work for it begins; None asks for no page."""
    from regard.plots.output_files import require_writable_file

    if path is None:
        return
    if not path.lower().endswith((".html", ".htm")):
        raise ConfigError(f"--html {path}: a page ends in .html.")
    require_writable_file(path)
