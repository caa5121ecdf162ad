"""Trained models written in the formats of others: one file a format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from regard.hub.export.hugging_face import export_hugging_face
from regard.hub.export.trained_model import TrainedModel


class ExportFormat(NamedTuple):
    """A format of others.

    Args:
        write: Writes a model to a folder; returns what it has written.
        peer: Dotted name of the `regard.runs.text_check.Peer` that reads real texts with the
            library that the format is for.
        is_read_here: Whether regard opens such a folder, so that logits can be compared, too.
    """

    write: Callable[[TrainedModel, Path], str]
    peer: str
    is_read_here: bool = False


EXPORTS = {
    "hf": ExportFormat(
        export_hugging_face, "regard.runs.transformers_peer.TRANSFORMERS", is_read_here=True
    ),
}
"""The formats by name."""

__all__ = ["EXPORTS", "ExportFormat", "TrainedModel", "export_hugging_face"]
