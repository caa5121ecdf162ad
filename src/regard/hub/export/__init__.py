"""Trained models written in the formats of others: one file a format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from regard.hub.export.hugging_face import export_hugging_face
from regard.hub.export.trained_model import TrainedModel

EXPORTS: dict[str, Callable[[TrainedModel, Path], str]] = {"hf": export_hugging_face}
"""Writers by the name of their format; each writes to a folder and returns what it has written."""

__all__ = ["EXPORTS", "TrainedModel", "export_hugging_face"]
