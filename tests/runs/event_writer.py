"""A writer of event files that keeps what it is given, as torch's would be called."""

from __future__ import annotations

import sys
from types import SimpleNamespace


class Writer:
    """Keeps the scalars that it is given."""

    made: list[Writer]

    def __init__(self, folder: str, purge_step: int | None = None) -> None:
        self.folder, self.purge_step, self.is_closed = folder, purge_step, False
        self.scalars: dict[tuple[str, int], float] = {}
        self.made.append(self)

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value

    def close(self):
        self.is_closed = True


def use_writers(patch):
    """Have event files written by `Writer`; return the list of those that are made."""
    patch.setattr(Writer, "made", [], raising=False)
    stub = SimpleNamespace(SummaryWriter=Writer)
    patch.setitem(sys.modules, "torch.utils.tensorboard", stub)
    return Writer.made
