"""A run, a model and an explanation follow a device that is not the CPU, here a pretended one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.conftest import TINY, toy_pairs, write_tsv
from tests.pretended_gpu import DEVICE, pretended_gpu

import regard
from regard.explain import explain
from regard.hub.model_folder import ModelFolder
from regard.runs.run import ignore_events
from regard.runs.session import RunSession
from regard.runs.session_setup import SessionContext
from regard.setup.request import Request
from regard.tasks.sequence_to_sequence import target_setup
from regard.training.signals import Stopped, request_stop

pytestmark = pytest.mark.slow
SOURCE = "3 red cat sees the dog"


@pytest.fixture(scope="module")
def trained_there(tmp_path_factory):
    """Return the folder of a translator that was trained on the device, and the events."""
    folder, events = tmp_path_factory.mktemp("device") / "model", []
    with pretended_gpu():
        translator = regard.train(
            toy_pairs(60), folder, device="cuda", settings=TINY, report=events.append
        )
        assert translator.model.device == DEVICE
    return folder, events


def test_a_run_is_on_the_device_and_says_so(trained_there):
    folder, events = trained_there
    (planned,) = [event for event in events if type(event).__name__ == "Planned"]
    assert planned.device == str(DEVICE)
    assert 'device = "cuda"' in (folder / "config.toml").read_text()


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 9.0), ("cuda", 1.0)])
def test_what_the_first_outputs_of_a_gpu_wait_for_is_not_in_the_time_of_an_evaluation(
    tmp_path, monkeypatch, device, seconds
):
    """Its kernels are compiled and loaded then."""
    now, durations = 0.0, iter([9.0, 1.0])

    def decode(*arguments):
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(target_setup, "decode_rows", decode)
    monkeypatch.setattr(target_setup, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(target_setup, "time_evaluation", lambda *_: 0.5)
    file = write_tsv(tmp_path / "pairs.tsv", toy_pairs(60))
    settings = (*TINY, f"training.device={device}")
    request = Request.parse(settings, paths={"path": str(file)})
    with pretended_gpu():
        context = SessionContext(ModelFolder(tmp_path / "model"), ignore_events, 0.0)
        run = RunSession.from_request(request, context)
        measured = run.setup.evaluation_seconds(run.setup.model)
    assert measured == pytest.approx(2 * 0.5 + seconds * target_setup._BATCHING_GAIN)


def test_a_model_writes_the_same_on_both(trained_there):
    folder, _ = trained_there
    on_cpu = regard.load(folder, device="cpu")
    with pretended_gpu():
        there = regard.load(folder)
        assert {weight.device for weight in there.model.parameters()} == {DEVICE}
        assert there.translate([SOURCE], beam=3) == on_cpu.translate([SOURCE], beam=3)
        weights = torch.tensor(there.align(SOURCE, "3 Katze").weights)
    torch.testing.assert_close(weights, torch.tensor(on_cpu.align(SOURCE, "3 Katze").weights))


def test_scores_of_a_file_are_the_same_on_both(trained_there):
    folder, _ = trained_there
    rows = toy_pairs(90)[60:]
    expected = regard.evaluate(folder, rows, device="cpu", allow_overlap=True)
    with pretended_gpu():
        report = regard.evaluate(folder, rows, allow_overlap=True)
    scores, on_cpu = (r.json_fields()["scores"] for r in (report, expected))
    assert scores["chrf"]["value"] == pytest.approx(on_cpu["chrf"]["value"])


def test_an_explanation_is_the_same_on_both(trained_there):
    folder, _ = trained_there
    expected = explain(regard.load(folder, device="cpu"), SOURCE).methods
    with pretended_gpu():
        methods = explain(regard.load(folder), SOURCE).methods
    assert methods.keys() == expected.keys()
    for name, result in methods.items():
        for scores, on_cpu in zip(result.scores, expected[name].scores, strict=True):
            assert [score is None for score in scores] == [score is None for score in on_cpu]
            numbers = [score for score in on_cpu if score is not None]
            assert [s for s in scores if s is not None] == pytest.approx(
                numbers, rel=1e-3, abs=1e-4
            )


def test_a_checkpoint_crosses_devices(tmp_path):
    folder = tmp_path / "model"

    def stop(event):
        if type(event).__name__ == "Evaluated":
            request_stop()

    with pretended_gpu(), pytest.raises(Stopped):
        regard.train(toy_pairs(60), folder, device="cuda", settings=TINY, report=stop)
    events = []
    translator = regard.resume(folder, device="cpu", report=events.append)
    assert translator.model.device == torch.device("cpu")
    assert any("Resumed from step" in getattr(event, "text", "") for event in events)
    finished = ModelFolder(folder).read_metrics()[-1]
    assert finished["event"] == "finished"
