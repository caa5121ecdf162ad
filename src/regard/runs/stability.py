"""The stability of the run in a model folder: its record, a table for people, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from regard.errors import WeightsError
from regard.hub.file_names import METRICS
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.plots.stability_maps import StabilityPicture
from regard.plots.style import spread
from regard.training.stability_monitor import short_number
from regard.training.stability_verdicts import StabilityRecord, read_stability

_COLUMNS = 6


def stability_of(path: str | Path) -> StabilityRecord:
    """Return the record of the stability of a run.

    Args:
        path: Model folder.

    Raises:
        WeightsError: It is not a model folder, or its run has no record by layer.
    """
    folder = ModelFolder(path)
    if is_hugging_face(folder.path):
        raise WeightsError(f"{path}: holds weights without their run: nothing is known of it.")
    folder.require_model()
    record = read_stability(folder.read_metrics())
    if record is None:
        raise WeightsError(
            f"{path}: no record of gradients by layer in {METRICS}: the run was made by a version "
            "that wrote none, or has no evaluation yet."
        )
    return record


def format_stability(record: StabilityRecord) -> list[str]:
    """Return a record as lines of text: verdicts, then layers by a few of the recorded steps."""
    count, first, last = len(record.steps), record.steps[0], record.steps[-1]
    kind = "means up to evaluations" if record.is_mean else "recorded steps"
    span = f"{count:,} {kind}, {first:,} to {last:,}"
    lines = [f"Stability   {sentence}" for sentence in record.sentences()]
    lines.append(f"Record      {span}, {len(record.layers):,} layers")
    columns = spread(count, _COLUMNS)
    for title, figures in (
        ("Gradient norm, before clipping", record.gradient_norms),
        ("Norm of the update / norm of the weights", record.update_ratios),
    ):
        lines += ["", title, *_table(record, figures, columns)]
    return lines


def stability_picture(record: StabilityRecord) -> StabilityPicture:
    """Return a record as a picture."""
    return StabilityPicture(
        steps=record.steps,
        layers=record.layers,
        gradient_norms=record.gradient_norms,
        update_ratios=record.update_ratios,
        verdicts=[verdict.text for verdict in record.verdicts],
        marks=[(verdict.layer, verdict.step) for verdict in record.verdicts],
    )


def _table(
    record: StabilityRecord, figures: Mapping[str, Sequence[float | None]], columns: Sequence[int]
) -> list[str]:
    rows = [["step", *(f"{record.steps[column]:,}" for column in columns)]]
    for layer in record.layers:
        values = (figures[layer][column] for column in columns)
        rows.append([layer, *("-" if v is None else short_number(v) for v in values)])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                f"{row[0]:{widths[0]}}",
                *(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
