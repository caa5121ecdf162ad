"""The options ``--live`` and ``--live-port``: a page that shows a run while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regard.cli.console import event_fields
from regard.cli.failures import describe_failure
from regard.cli.outputs import as_json
from regard.cli.parameters import Flag
from regard.cli.wording import command_text
from regard.errors import ConfigError, NextStep, WeightsError
from regard.settings.validation import require_range

if TYPE_CHECKING:
    from regard.serving.live.history import Fields
    from regard.serving.live.server import LivePage
    from regard.training.events import Event, Report

_PORT = 8642
_NEEDED = ("starlette", "uvicorn")


@Parameter(name="*")
@dataclass(frozen=True)
class LiveOptions:
    """Whether a page shows the run, and where.

    Attributes:
        live: Show the run while it trains, on a page at http://127.0.0.1:8642.
        live_port: Port of that page, in place of 8642; 0 takes a free one. It means --live, too.
    """

    live: Annotated[bool, Flag] = False
    live_port: int | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether there is to be a page."""
        return self.live or self.live_port is not None

    def check(self) -> None:
        """Raise ConfigError where the port is none."""
        if self.live_port is not None:
            require_range("--live-port", self.live_port, 0, 65_535)


@contextmanager
def show_live(options: LiveOptions, output: str, report: Report, *, json: bool) -> Iterator[Report]:
    """Show a run on a page inside ``with``, where that is wanted, and say its address once.

    Args:
        options: Whether and where.
        output: Folder of the run; the curves of earlier sessions are those of its metrics.
        report: What else is called with every event.
        json: Say the address as a JSON object.

    Yields:
        The function that is to be called with every event.

    Raises:
        ConfigError: The extra is not installed.
    """
    if not options.is_wanted:
        yield report
        return
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--live needs {', '.join(missing)}.  Install: pip install 'regard[serve]'"
        )
    from regard.serving.live.server import serve_run

    port = _PORT if options.live_port is None else options.live_port
    resume = NextStep("", "train", settings=(("output", output), ("resume", "")))
    flag = "--live" if options.live_port is None else f"--live-port {options.live_port}"
    run = {
        "name": Path(output).resolve().name,
        "folder": output,
        "resume": f"{command_text(resume)} {flag}",
    }
    with serve_run(run, port, _earlier_events(output)) as page:
        _print_address(page, port, json=json)

        def report_to_both(event: Event) -> None:
            page.add(event_fields(event))
            report(event)

        try:
            yield report_to_both
        except BaseException as error:
            ending = describe_failure(error)
            text = str(error) if ending is None else ending.message
            page.add({"event": "ended", "has_failed": True, "text": text})
            raise
        page.add({"event": "ended", "has_failed": False, "text": ""})


def _earlier_events(output: str) -> list[Fields]:
    """Return the evaluations of earlier sessions; a damaged file is for the run to refuse."""
    from regard.hub.model_folder import ModelFolder

    lines: list[Fields] = []
    with suppress(WeightsError, OSError):
        lines = [*ModelFolder(output).read_metrics()]
    return [line for line in lines if line.get("event") == "evaluated"]


def _print_address(page: LivePage, port: int, *, json: bool) -> None:
    """Say where the page is, and whether that is another port than was wanted."""
    if json:
        line = as_json({"event": "live", "url": page.url})
    else:
        note = "" if page.is_on_wanted_port else f"   (port {port} is taken)"
        line = f"Live    {page.url}   open it in a browser{note}"
    with suppress(OSError):  # the run itself says that its output cannot be written
        print(line, flush=True)
