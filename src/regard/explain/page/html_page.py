"""The page of an explanation: one HTML file that opens from disk, without a network."""

from __future__ import annotations

from pathlib import Path

import msgspec

from regard.explain.document import Explanation, require_explanation
from regard.explain.page.packed_attention import PackedMap, pack_attention
from regard.explain.page.packed_scores import PackedScores, Scores, is_large, pack_scores
from regard.explain.page.self_contained import html_file
from regard.explain.page.terminal_view import format_text
from regard.plots.output_files import write_file

STYLES = ("page.css", "panels.css")
MODULES = (
    *("elements.js", "words.js", "colors.js", "payload.js", "explained.js", "view.js", "matrix.js"),
    *("sentence_panel.js", "why_panel.js", "alignment_panel.js", "heads_panel.js"),
    *("one_head_panel.js", "layers_panel.js", "architecture_panel.js", "influence_panel.js"),
    *("export.js", "show.js"),
)
"""What shows an explanation, in a file and in a page that is served."""

_DIGITS = 6  # of a score, as an explanation has them, so that what is shown is rounded once
_COLUMNS = 100  # of the text that is shown where no script runs
_MOST_BYTES = 1_700_000
"""Of packed numbers; with the rest of the page it is below 2 MB."""

_CONTROL = "control"  # among the packed scores, next to the methods' names


class _Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What the page reads.

    Args:
        document: The explanation without its attention, and without scores that are packed.
        scores: Packed, by the methods' names, and those of the control.
        attention: Packed.
    """

    document: Explanation
    scores: dict[str, PackedScores]
    attention: list[PackedMap]


def page_html(explanation: Explanation) -> str:
    """Return an explanation as the text of an HTML file.

    Args:
        explanation: Explanation of a prediction, of any task.
    """
    payload = _pack(explanation)
    return html_file(
        title=f"regard · {explanation.model.name} · {_shorten(explanation.text)}",
        styles=STYLES,
        modules=(*MODULES, "main.js"),
        payload=payload,
        text=format_text(explanation, _COLUMNS),
    )


def page_payload(explanation: Explanation) -> bytes:
    """Return what the page of an explanation draws, as JSON: its document and packed numbers.

    Args:
        explanation: Explanation of a prediction, of any task.
    """
    return msgspec.json.encode(_pack(explanation))


def save_page(explanation: Explanation, path: str | Path) -> None:
    """Write an explanation as one HTML file.

    Args:
        explanation: Explanation of a prediction, of any task.
        path: The file.

    Raises:
        ConfigError: The file cannot be written.
        ResourceError: The disk is full, or fails.
    """
    write_file(path, page_html(explanation).encode())


def _pack(explanation: Explanation) -> _Payload:
    """Return an explanation as the page reads it: large scores and all attention packed."""
    require_explanation(explanation)
    all_scores: dict[str, Scores] = {
        name: result.scores for name, result in explanation.methods.items()
    }
    all_scores[_CONTROL] = explanation.control
    packed = {name: pack_scores(each) for name, each in all_scores.items() if is_large(each)}
    plain = {name: [] if name in packed else _round(each) for name, each in all_scores.items()}
    document = msgspec.structs.replace(
        explanation,
        methods={
            name: msgspec.structs.replace(result, scores=plain[name])
            for name, result in explanation.methods.items()
        },
        control=plain[_CONTROL],
        attention=[],
    )
    left = _MOST_BYTES - sum(len(each.data) for each in packed.values())
    return _Payload(
        document=document,
        scores=packed,
        attention=pack_attention(explanation.attention, left),
    )


def _round(scores: Scores) -> list[list[float | None]]:
    return [
        [None if value is None else float(f"{value:.{_DIGITS}g}") for value in row]
        for row in scores
    ]


def _shorten(text: str, most: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
