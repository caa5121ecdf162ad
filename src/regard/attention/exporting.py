"""Whether a program is exported, which is asked where its graph must serve all lengths."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """Return whether `torch.export` traces.

    `torch.compiler.is_exporting` is True within `torch.compile`, too, by the compiler of PyTorch
    2.11, where attention would be computed by the definition.
    """
    return torch.compiler._is_exporting_flag
