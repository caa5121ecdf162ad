"""The page of a run: a file that draws what the feed of its own address says."""

from __future__ import annotations

from regard.explain.page.self_contained import html_file
from regard.metrics import FLOORS, METRICS

_STYLES = ("page.css", "live.css")
_MODULES = (
    *("elements.js", "words.js", "run_words.js", "curve_scale.js", "curve_chart.js"),
    *("run_state.js", "run_panels.js", "run_facts.js", "live.js"),
)
_NO_SCRIPT = "The console of the run says the same.\nPrograms read it at state, as JSON."


def live_page(version: str) -> str:
    """Return the page of any run as the text of an HTML file.

    Args:
        version: That of regard; a page of another one loads itself again.
    """
    metrics = {
        name: {**metric._asdict(), "heading": metric.heading} for name, metric in METRICS.items()
    }
    floors = {name: floor._asdict() for name, floor in FLOORS.items()}
    return html_file(
        title="regard",
        styles=_STYLES,
        modules=_MODULES,
        payload={"version": version, "metrics": metrics, "floors": floors},
        text=_NO_SCRIPT,
        asks_service=True,
    )
