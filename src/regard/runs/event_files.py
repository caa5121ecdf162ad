"""The events of a run as event files of TensorBoard, in the folder of the run.

The figures of an evaluation are ``loss/train``, ``loss/valid`` and ``valid/NAME``; the loss between
evaluations is ``loss/recent``; the test of the kept weights is ``test/NAME``. A session of a run
writes a file of its own, and a resumed one hides what an earlier one wrote after its checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import singledispatch
from pathlib import Path

from regard.errors import ConfigError
from regard.hub.file_names import TENSORBOARD
from regard.training.events import Evaluated, Event, Finished, Progress, Report, Warned


def require_tensorboard() -> None:
    """Check that event files can be written.

    Raises:
        ConfigError: TensorBoard is not installed, or cannot be imported.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - whether it works
    except ImportError as error:
        raise ConfigError(
            f"`training.tensorboard=true`: needs the package tensorboard ({error}).  "
            "Install it: pip install 'regard[tensorboard]'"
        ) from error


class EventFiles:
    """Writes the events of one session of a run; a failure to write ends the writing alone.

    Args:
        folder: Folder of the run.
        report: Called with a warning where writing fails.
        step: Steps that earlier sessions took; 0 for the first.
    """

    def __init__(self, folder: Path, report: Report, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._report = report
        purge_step = step + 1 if step else None
        self._writer: SummaryWriter | None = SummaryWriter(
            str(folder / TENSORBOARD), purge_step=purge_step
        )

    def write(self, event: Event) -> None:
        """Write the figures of an event, where it has some."""
        if self._writer is None:
            return
        try:
            for name, value, step in figures(event):
                self._writer.add_scalar(name, value, step)
        except OSError as error:
            self._writer = None
            reason = error.strerror or error
            self._report(Warned(text=f"No more event files for TensorBoard ({reason})."))

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


@singledispatch
def figures(event: Event) -> Iterator[tuple[str, float, int]]:  # noqa: ARG001 - the default
    """Yield name, value and step of the figures of an event; most events have none."""
    yield from ()


@figures.register
def _(event: Progress) -> Iterator[tuple[str, float, int]]:
    yield "loss/recent", event.loss, event.step


@figures.register
def _(event: Evaluated) -> Iterator[tuple[str, float, int]]:
    values = {
        "loss/train": event.train_loss,
        **{
            "loss/valid" if name == "loss" else f"valid/{name}": value
            for name, value in event.measures.items()
        },
        "run/learning_rate": event.learning_rate,
        "run/gradient_norm": event.gradient_norm,
        "run/tokens_per_second": event.tokens_per_second,
    }
    if event.stability is not None:
        layers = event.stability
        values |= {f"gradient_norm/{name}": norm for name, norm in layers.gradient_norms.items()}
        values |= {f"update_ratio/{name}": ratio for name, ratio in layers.update_ratios.items()}
    for name, value in values.items():
        if value is not None:
            yield name, value, event.step


@figures.register
def _(event: Finished) -> Iterator[tuple[str, float, int]]:
    for name, value in event.test.items():
        if value is not None and math.isfinite(value):
            yield f"test/{name}", value, event.best_step
