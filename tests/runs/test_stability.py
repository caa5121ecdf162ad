"""What the stability monitor leaves of a real run: figures, and the end of one that fails."""

import re

import pytest
from tests.conftest import TINY

from regard.cli.wording import error_text
from regard.errors import WeightsError
from regard.hub.model_folder import ModelFolder
from regard.hub.storage import read_tensors
from regard.runs.run import resume, train
from regard.training.checkpoint import checkpoint_path
from regard.training.events import Saved

COPYING = ["copy_head", "copy_head.query", "copy_head.key", "copy_head.gate"]
LAYERS = ["output_weight", "encoder.0", "decoder.0", "encoder_norm", "decoder_norm", *COPYING]


class Crash(Exception):  # noqa: N818 - it stands for an event
    """Stands for a power cut."""


def evaluations(folder):
    return [line for line in ModelFolder(folder).read_metrics() if line["event"] == "evaluated"]


def test_figures_by_layer_stand_in_metrics_jsonl(trained):
    lines = evaluations(trained)
    assert lines
    for line in lines:
        found = line["stability"]
        assert found["num_samples"] >= 1
        assert list(found["gradient_norms"]) == list(found["update_ratios"]) == LAYERS
        assert all(0 < norm < 100 for norm in found["gradient_norms"].values())
        assert all(1e-6 < ratio < 1 for ratio in found["update_ratios"].values())
        assert found["largest_gradient_norm"] >= line["gradient_norm"]
        assert found["gap"] == line["measures"]["loss"] - line["train_loss"]


def test_a_healthy_run_gives_no_alarm(trained):
    assert [line["stability"]["alarms"] for line in evaluations(trained)] == [[]] * len(
        evaluations(trained)
    )


@pytest.mark.slow
def test_a_resumed_run_tells_the_same_figures_to_the_bit(tmp_path, pairs_file, trained):
    settings = (*TINY, "training.checkpoint_seconds=0.0")

    def crash(event):
        if isinstance(event, Saved) and event.step == 11:
            raise Crash

    with pytest.raises(Crash):
        train(pairs_file, tmp_path / "broken", settings=settings, report=crash)
    resume(tmp_path / "broken")
    first, second = evaluations(trained), evaluations(tmp_path / "broken")
    assert [line["stability"] for line in first] == [line["stability"] for line in second]


@pytest.mark.slow
def test_a_run_that_breaks_names_lines_layer_and_settings_and_keeps_a_good_checkpoint(
    tmp_path, pairs_file
):
    folder = tmp_path / "model"
    settings = (*TINY, "optimizer.learning_rate=1e18", "optimizer.warmup=0.0")
    with pytest.raises(WeightsError) as raised:
        train(pairs_file, folder, settings=settings)
    assert re.fullmatch(
        r"(loss|gradient norm) is (nan|inf) at step (\d+) \(batch \3, lines \d+, \d+, \d+ and \d+ "
        rf"more\)\.  Last good: step \d+, saved as {re.escape(str(checkpoint_path(folder)))}\.  "
        r"(First n|N)ot finite: .+\.  Largest gradient: \S+ \S+ \(step \d+\)\.  "
        r"Try, with another -o: --set optimizer\.learning_rate=3\.3e\+17 "
        r"--set optimizer\.clip=0\.5",
        error_text(raised.value),
    ), error_text(raised.value)
    tensors, _ = read_tensors(checkpoint_path(folder))
    assert all(bool(value.isfinite().all()) for value in tensors.values())
