"""Sessions of onnxruntime."""

from __future__ import annotations

from pathlib import Path

import onnxruntime


def open_session(folder: str) -> onnxruntime.InferenceSession:
    """Return the graph of a folder."""
    return onnxruntime.InferenceSession(str(Path(folder) / "model.onnx"))
