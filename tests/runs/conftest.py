"""A run that is stopped after its first evaluation and resumed, with all that it leaves."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import TINY
from tests.plots.read_svg import Svg
from tests.runs.event_writer import Writer, use_writers

from regard.plots import curves
from regard.plots.curves import draw_curves  # before runs of tests draw none
from regard.runs.run import resume, train
from regard.training.events import Evaluated, Event
from regard.training.signals import Stopped


@dataclass
class StoppedRun:
    """What a run left and reported in two sessions."""

    folder: Path
    writers: list[Writer]
    first_events: list[Event]
    second_events: list[Event]
    first_texts: list[str]


@pytest.fixture(scope="session")
def stopped_and_resumed(tmp_path_factory, pairs_file):
    """A finished run of two sessions."""
    folder = tmp_path_factory.mktemp("models") / "resumed"
    first_events, second_events = [], []

    def stop_after_evaluation(event):
        first_events.append(event)
        if isinstance(event, Evaluated):
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "draw_curves", draw_curves)
        writers = use_writers(patch)
        settings = (*TINY, "training.tensorboard=true")
        with pytest.raises(Stopped):
            train(pairs_file, folder, settings=settings, report=stop_after_evaluation)
        first_texts = Svg(folder / "curves.svg").texts
        resume(folder, report=second_events.append)
    return StoppedRun(folder, writers, first_events, second_events, first_texts)
