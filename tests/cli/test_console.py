"""Lines that a run prints."""

from __future__ import annotations

import msgspec
import pytest

from regard.cli.console import describe
from regard.training.events import Planned

PLANNED = Planned(
    optimizer="muon",
    learning_rate=0.02,
    batch_tokens=512,
    padding_share=0.015,
    total_steps=1,
    steps_per_epoch=2,
    seconds=75.0,
    memory_bytes=140_000_000,
    disk_bytes=2_000_000,
    patience=4,
    measured_steps=1,
)


def test_the_plan_is_a_line():
    assert describe(PLANNED) == [
        "Plan    muon 0.02, batch 512 tokens (padding 1.5 %), 1 step = 0.5 epochs at most, "
        "patience 4   ~1m15s, 140 MB memory, 2 MB disk   (measured on 1 step)"
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps_per_epoch": 1}, "1 step on all rows at most"),
        ({"total_steps": 1200}, "1,200 steps = 600.0 epochs at most"),
        ({"measured_steps": 3}, "(measured on 3 steps)"),
    ],
    ids=str,
)
def test_one_step_is_no_steps(changes, words):
    (line,) = describe(msgspec.structs.replace(PLANNED, **changes))
    assert words in line
