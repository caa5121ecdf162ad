"""The output of a run: live on a terminal, plain lines elsewhere, or one JSON object an event."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import singledispatch
from importlib import import_module
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from regard.cli.outputs import as_json
from regard.cli.progress import SECONDS_BETWEEN_STAGES
from regard.cli.wording import command_text, message_text
from regard.data.listing import pluralize
from regard.data.progress import Stage
from regard.errors import NextStep
from regard.metrics import Metric, metric_named
from regard.training import events as ev

_SPARKS = "▁▂▃▄▅▆▇█"
_BAR_WIDTH = 16


@contextmanager
def make_report(*, json: bool) -> Iterator[ev.Report]:
    """Provide the function that writes events of a run to standard output.

    Args:
        json: Write one JSON object a line.

    Yields:
        The function.
    """
    console = Console(highlight=False, soft_wrap=True)
    if json:
        yield _write_json
    elif is_notebook():
        yield _NotebookReport()
    elif is_interactive():
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield _LiveReport(live)
    else:
        yield _PlainReport(lambda text: print(text, flush=True))


def is_interactive() -> bool:
    """Return whether output goes to a terminal or a notebook, where a line can be updated.

    ``FORCE_COLOR`` asks for color in a file, too, but a file has no lines to update.
    """
    return sys.stdout.isatty() or is_notebook()


def is_notebook() -> bool:
    """Whether this is a cell of a notebook."""
    return Console().is_jupyter


def event_fields(event: ev.Event) -> dict[str, Any]:
    """Return the fields of an event, its commands as the command line has them."""
    fields = msgspec.to_builtins(event)
    if isinstance(event, ev.Warned):
        fields = {"event": fields["event"], "text": message_text(event.text, event.next_steps)}
    elif isinstance(event, ev.DataSummary):
        fields["warnings"] = [message_text(text) for text in event.warnings]
    elif isinstance(event, ev.Interrupted):
        fields["command"] = _resume_command(event)
    elif isinstance(event, ev.Finished):
        fields["tries"] = [command_text(step) for step in event.tries]
    return fields


def _write_json(event: ev.Event) -> None:
    sys.stdout.write(as_json(event_fields(event)) + "\n")
    sys.stdout.flush()


class _PlainReport:
    """Writes lines of text; without progress between evaluations.

    A stage that takes long has a line from time to time.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._has_header = False
        self._wrote_at = time.monotonic()

    def __call__(self, event: ev.Event) -> None:
        if isinstance(event, ev.WorkingOn):
            if time.monotonic() - self._wrote_at < SECONDS_BETWEEN_STAGES:
                return
            self._write(f"        {_working_text(event)}")
            self._wrote_at = time.monotonic()
            return
        if isinstance(event, ev.Evaluated) and not self._has_header:
            self._has_header = True
            self._write(header(event.measures))
        for line in describe(event):
            self._write(line)
            self._wrote_at = time.monotonic()


class _LiveReport:
    """Writes the same lines above a progress bar that is updated in place."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._plain = _PlainReport(lambda text: live.console.print(Text(text)))
        self._losses: deque[float] = deque(maxlen=24)
        self._shows_work = False

    def __call__(self, event: ev.Event) -> None:
        if isinstance(event, ev.Progress):
            self._losses.append(event.loss)
            self._show(_progress_line(event, self._losses))
            return
        if isinstance(event, ev.WorkingOn):
            self._show(_working_line(event))
            self._shows_work = True
            return
        if self._shows_work or isinstance(event, ev.Interrupted | ev.Finished):
            self._show("")
        self._plain(event)

    def _show(self, line: str) -> None:
        self._live.update(Text(line), refresh=True)
        self._shows_work = False


class _NotebookReport:
    """Writes lines of text below one that is updated in place, without widgets."""

    def __init__(self) -> None:
        self._plain = _PlainReport(lambda text: print(text, flush=True))
        self._losses: deque[float] = deque(maxlen=24)
        # A notebook has IPython, which regard does not depend on.
        self._display = import_module("IPython.display").display
        self._line = None

    def __call__(self, event: ev.Event) -> None:
        if isinstance(event, ev.Progress):
            self._losses.append(event.loss)
            content = {"text/plain": _progress_line(event, self._losses)}
        elif isinstance(event, ev.WorkingOn):
            content = {"text/plain": _working_line(event)}
        else:
            self._plain(event)
            return
        if self._line is None:
            self._line = self._display(content, raw=True, display_id=True)
        else:
            self._line.update(content, raw=True)


def _column_width(metric: Metric) -> int:
    """Return the characters of a column of figures."""
    return max(9, len(metric.column) + 2)


def header(measures: Collection[str]) -> str:
    """Return the line above the evaluations.

    >>> header(["loss", "perplexity"])
    '  epoch     step    train    valid  perplexity      tok/s   elapsed      left'
    """
    metrics = map(metric_named, measures)
    titles = (f"{metric.column:>{_column_width(metric)}s}" for metric in metrics)
    counts_inputs = {"accuracy", "exact_match", "micro_f1"} & set(measures)
    rate = "inputs/s" if counts_inputs else "tok/s"
    return f"  epoch     step    train{''.join(titles)}{rate:>11s}   elapsed      left"


def _figure(value: float, width: int, num_digits: int) -> str:
    """Return a figure in a column, in powers of ten where it has no room; a dash for NaN.

    >>> _figure(8.6666, 9, 3), _figure(6_696_153_088.0, 9, 3), _figure(math.nan, 9, 3)
    ('    8.667', '  6.7e+09', '        -')
    """
    if math.isnan(value):
        return f"{'-':>{width}s}"
    text = f"{value:{width},.{num_digits}f}"
    return text if text.startswith(" ") else f"{value:{width}.2g}"


def _working_text(event: ev.WorkingOn) -> str:
    return str(Stage(event.stage, event.done, event.total, event.unit))


def _working_line(event: ev.WorkingOn) -> str:
    """Return the line of a stage on a terminal, with a bar where it is counted."""
    text = _working_text(event)
    return f"        {_bar(event.done, event.total)} {text}" if event.total else f"        {text}"


def _bar(done: int, total: int) -> str:
    """Return a bar of what is done.

    >>> _bar(1, 2)
    '████████░░░░░░░░'
    """
    filled = round(done / max(1, total) * _BAR_WIDTH)
    return "█" * filled + "░" * (_BAR_WIDTH - filled)


def _progress_line(event: ev.Progress, losses: deque[float]) -> str:
    bar = _bar(event.step, event.total_steps)
    if event.is_full_batch:
        return (
            f"{event.step:7,d} {bar} of {pluralize(event.total_steps, 'step')}   "
            f"loss {event.loss:.4f} {sparkline(list(losses)[::3])}   "
            f"{event.num_passes:,.0f} passes   gradient {event.gradient_norm:.1e}   "
            f"{duration(event.left)} left"
        )
    return (
        f"{event.epoch:7d} {bar} {event.step:,}/{event.total_steps:,}   loss {event.loss:.3f} "
        f"{sparkline(list(losses)[::3])}   {event.tokens_per_second:,.0f} tok/s   "
        f"{duration(event.left)} left"
    )


def sparkline(values: list[float]) -> str:
    """Return numbers as a row of bars.

    >>> sparkline([3.0, 2.0, 1.0])
    '█▅▁'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_SPARKS[round((value - low) / span * (len(_SPARKS) - 1))] for value in values)


def duration(seconds: float) -> str:
    """Return seconds as people read them.

    >>> [duration(s) for s in (4.2, 75, 3600, 8000)]
    ['4s', '1m15s', '60m00s', '2h13m']
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02d}s" if minutes < 100 else f"{minutes // 60}h{minutes % 60:02d}m"


def size(num_bytes: float) -> str:
    """Return bytes as people read them.

    >>> size(1_140_000_000), size(140_000_000)
    ('1.1 GB', '140 MB')
    """
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


@singledispatch
def describe(event: ev.Event) -> list[str]:  # noqa: ARG001 - the default
    """Return an event as lines of text; empty for events like progress."""
    return []


@describe.register
def _(event: ev.DataSummary) -> list[str]:
    guess = " (guessed; --lang en-de to fix)" if event.languages_are_guessed else ""
    contents = f"{event.contents}{guess}   " if event.contents else ""
    read_as = f"read as {event.read_as}   " if event.read_as else ""
    total = event.num_train + event.num_valid + event.num_test
    line = (
        f"Data    {event.path}   {read_as}{total:,} {event.unit}   {contents}"
        f"{event.num_train:,} train / {event.num_valid:,} valid / {event.num_test:,} test"
    )
    lines = [line]
    if event.dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in event.dropped.items())
        lines.append(f"        dropped {sum(event.dropped.values()):,}: {reasons}")
    return [*lines, *(f"Warning {message_text(text)}" for text in event.warnings)]


@describe.register
def _(event: ev.TokenizerSummary) -> list[str]:
    shared = ", shared" if event.is_shared else ""
    unknown = "   unknown 0.00 %" if event.knows_all else ""
    return [
        f"Tokens  {event.kind} {event.vocab_size:,}{shared}   {event.pieces_per_word:.2f} "
        f"pieces/{event.unit}{unknown}"
    ]


@describe.register
def _(event: ev.ModelSummary) -> list[str]:
    number = event.num_parameters
    size = f"{number / 1e6:.1f} M" if number >= 1e5 else f"{number:,} parameters"
    return [f"Model   {event.summary}   {size}   {event.precision}"]


@describe.register
def _(event: ev.Planned) -> list[str]:
    stop = f", patience {event.patience}" if event.patience else ""
    epochs = event.total_steps / event.steps_per_epoch
    rate = "" if event.learning_rate is None else f" {event.learning_rate:g}"
    steps = pluralize(event.total_steps, "step")
    steps += f" = {epochs:.1f} epochs" if event.steps_per_epoch > 1 else " on all rows"
    steps = f"about {steps}" if event.has_budget else f"{steps} at most"
    device = "" if event.device == "cpu" else f" on {event.device}"
    lines = [
        f"Plan    {event.optimizer}{rate}{device}, batch {event.batch_tokens:,} tokens "
        f"(padding {100 * event.padding_share:.1f} %), {steps}{stop}   "
        f"~{duration(event.seconds)}, {size(event.memory_bytes)} memory, "
        f"{size(event.disk_bytes)} disk   (measured on {pluralize(event.measured_steps, 'step')})"
        + _sharing(event)
    ]
    if event.pass_minutes:
        see = "step sees" if event.total_steps == 1 else "steps see"
        lines.append(
            f"Warning {event.total_steps:,} {see} {100 * epochs:.2g} % of the data, once.  "
            f"One pass over all of it: --minutes {event.pass_minutes:,}; a good model takes several"
        )
    return lines


def _sharing(event: ev.Planned) -> str:
    """Return how a batch is shared, for the line of the plan; empty where it is not."""
    parts = []
    if event.num_processes:
        parts.append(
            f"{event.parallel} on {pluralize(event.num_processes, 'process', 'processes')}"
        )
    if event.num_shards:
        parts.append(f"{pluralize(event.num_shards, 'shard')} a batch")
    if event.is_deterministic:
        parts.append(f"sums in a fixed order ({100 * event.sum_fraction:.0f} % of a step)")
    return f"   {', '.join(parts)}" if parts else ""


def _measured(measures: Mapping[str, float]) -> Iterator[tuple[Metric, float]]:
    """Yield the figures of an evaluation, each with what people read of it."""
    return ((metric_named(name), value) for name, value in measures.items())


@describe.register
def _(event: ev.Started) -> list[str]:
    figures = "   ".join(
        f"{metric.column} {value:,.{metric.num_digits}f}"
        for metric, value in _measured(event.measures)
        if not math.isnan(value)
    )
    return [f"Before  {figures}   (the weights of {event.folder})"]


@describe.register
def _(event: ev.Evaluated) -> list[str]:
    figures = "".join(
        _figure(value, _column_width(metric), metric.num_digits)
        for metric, value in _measured(event.measures)
    )
    passes = max(event.epoch, int(event.num_passes))  # a search passes over the data several times
    return [
        f"{passes:7,d} {event.step:8,d}{_figure(event.train_loss, 9, 3)}"
        f"{figures} {event.tokens_per_second:10,.0f} "
        f"{duration(event.elapsed):>9s} {duration(event.left):>9s}"
        f"{'   best' if event.is_best else ''}"
    ]


@describe.register
def _(event: ev.Drawn) -> list[str]:
    return [f"Curves  {event.path}"]


@describe.register
def _(event: ev.Warned) -> list[str]:
    return [f"Note    {message_text(event.text, event.next_steps)}"]


@describe.register
def _(event: ev.Interrupted) -> list[str]:
    return [f"Saved   {event.path} (step {event.step:,}).  Continue: {_resume_command(event)}"]


def _resume_command(event: ev.Interrupted) -> str:
    return command_text(
        NextStep("Continue", "train", settings=(("output", event.folder), ("resume", "")))
    )


@describe.register
def _(event: ev.Finished) -> list[str]:
    cut = ""
    if event.planned_steps is not None:
        cut = (
            f"{event.step:,} of {event.planned_steps:,} planned steps: the machine was slower than "
            "measured   "
        )
    lines = [
        f"Done    best step {event.best_step:,}, {event.summary}   {cut}"
        f"{duration(event.seconds)} (estimate {duration(event.estimate)})   "
        f"card: {event.folder}/README.md"
    ]
    return [*lines, *(f"Try     {command_text(step)}" for step in event.tries)]
