"""What runs of tests leave out: their curves, and most of what they measure."""

from __future__ import annotations

import functools
import sys

import pytest

from regard.plots import curves


def leave_out(patch: pytest.MonkeyPatch) -> None:
    """Let runs draw no curves, and measure no more than a small model needs.

    Curves would take a tenth of a tiny run. Runs share one measurement of the machine, which takes
    a fifth; an export is compared on 6 real texts, for each of which `transformers` searches with a
    beam; the latency of a translator is that of 4 sentences.
    """
    patch.setattr(curves, "draw_curves", lambda *_: None)
    if session := sys.modules.get("regard.runs.session"):
        patch.setattr(session, "inspect_machine", functools.cache(session.inspect_machine))
    if text_check := sys.modules.get("regard.runs.text_check"):
        patch.setattr(text_check, "NUM_TEXTS", 6)
    if evaluation := sys.modules.get("regard.tasks.translation.evaluation"):
        patch.setattr(evaluation, "_TIMED_SENTENCES", 4)
