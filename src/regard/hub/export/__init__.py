"""Trained models written in the formats of others: one file a format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from regard.hub.export.ctranslate2 import ctranslate2_obstacles, export_ctranslate2
from regard.hub.export.graph_folder import graph_obstacles
from regard.hub.export.hugging_face import export_hugging_face, hugging_face_obstacles
from regard.hub.export.onnx import export_onnx
from regard.hub.export.torch_program import export_torch
from regard.hub.export.trained_model import TrainedModel


class ExportFormat(NamedTuple):
    """A format of others.

    Args:
        write: Writes a model to a folder; returns what it has written.
        peer: Dotted name of the `regard.runs.text_check.Peer` that reads real texts with the
            library that the format is for.
        is_read_here: Whether `regard.load` opens its folders, so that logits can be compared, too.
        obstacles: Returns in words what it cannot express of a model, empty where it can; None is
            never proposed in place of another format.
        purpose: Name of the library, in messages.
    """

    write: Callable[[TrainedModel, Path], str]
    peer: str
    is_read_here: bool = False
    obstacles: Callable[[TrainedModel], str] | None = None
    purpose: str = ""


EXPORTS = {
    "hf": ExportFormat(
        export_hugging_face,
        "regard.runs.transformers_peer.TRANSFORMERS",
        is_read_here=True,
        obstacles=hugging_face_obstacles,
        purpose="transformers",
    ),
    "ctranslate2": ExportFormat(
        export_ctranslate2,
        "regard.runs.ctranslate2_peer.CTRANSLATE2",
        obstacles=ctranslate2_obstacles,
        purpose="CTranslate2",
    ),
    "onnx": ExportFormat(
        export_onnx,
        "regard.runs.graph_peers.ONNXRUNTIME",
        obstacles=graph_obstacles,
        purpose="onnxruntime",
    ),
    "torch": ExportFormat(
        export_torch,
        "regard.runs.graph_peers.TORCH",
        obstacles=graph_obstacles,
        purpose="PyTorch",
    ),
}
"""The formats by name."""

__all__ = [
    "EXPORTS",
    "ExportFormat",
    "TrainedModel",
    "export_ctranslate2",
    "export_hugging_face",
    "export_onnx",
    "export_torch",
]
