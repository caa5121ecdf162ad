"""Sessions of onnxruntime."""

from __future__ import annotations

from pathlib import Path

import onnxruntime


def open_session(folder: str, name: str = "model") -> onnxruntime.InferenceSession:
    """Return a graph of a folder."""
    return onnxruntime.InferenceSession(str(Path(folder) / f"{name}.onnx"))
