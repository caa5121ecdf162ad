"""What a run learns, and what it says about itself."""

from __future__ import annotations

import random

import msgspec
import pytest
from tests.conftest import TINY, toy_pairs, write_tsv
from tests.setup.decide import decide

import regard
from regard import load
from regard.data.readers.source import open_source
from regard.data.tokenizer import Tokenizer
from regard.errors import ConfigError, DataError, ResourceError
from regard.runs.run import estimate, ignore_events, train
from regard.setup.build import build_model
from regard.setup.dataset import ReadOptions
from regard.setup.estimate import Measurement, make_plan
from regard.setup.evaluation_report import EvaluationOptions
from regard.setup.training_setup import RunParts
from regard.tasks import TASKS
from regard.tasks.translation.evaluation import evaluate_translator
from regard.training.ema import ExponentialMovingAverage
from regard.training.events import (
    DataSummary,
    Evaluated,
    Finished,
    ModelSummary,
    Planned,
    TokenizerSummary,
    Warned,
)

LEARNING = (
    *TINY,
    "model.dim=64",
    "model.num_heads=4",
    "model.hidden_dim=128",
    "model.dropout=0.0",
    "training.epochs=8",
)


@pytest.mark.slow
def test_a_toy_language_is_learned(tmp_path):
    data = write_tsv(tmp_path / "pairs.tsv", toy_pairs(800))
    translator = train(data, tmp_path / "model", settings=LEARNING)
    pairs = toy_pairs(1000, seed=9)[-200:]
    seen = set(toy_pairs(800))
    fresh = [pair for pair in pairs if pair not in seen]
    outputs = translator.translate([source for source, _ in fresh], beam=2)
    hits = sum(output == target for output, (_, target) in zip(outputs, fresh, strict=True))
    assert hits / len(fresh) > 0.9


@pytest.mark.slow
def test_a_run_tells_its_data_tokens_model_plan_evaluations_and_end(trained_run):
    folder, events = trained_run
    kinds = [type(event) for event in events]
    for kind in (DataSummary, TokenizerSummary, ModelSummary, Planned, Evaluated, Finished):
        assert kind in kinds
    planned = next(event for event in events if isinstance(event, Planned))
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    assert evaluations[-1].step == planned.total_steps
    assert len(evaluations) == 2
    assert set(evaluations[0].measures) == {"loss", "shuffled_loss", "chrf"}
    finished = next(event for event in events if isinstance(event, Finished))
    assert f"(copying the source: chrF {finished.test['copy_chrf']:.1f})" in finished.summary
    names = {"config.toml", "model.safetensors", "tokenizer.json", "metrics.jsonl", "README.md"}
    assert names <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_dry_run_writes_nothing(tmp_path, pairs_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = estimate(pairs_file, settings=TINY)
    assert planned.seconds > 0
    assert planned.memory_bytes > 1e7
    assert planned.disk_bytes > 1e4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_model_that_cannot_use_its_source_is_noticed(tmp_path):
    pairs = toy_pairs(300)
    targets = [target for _, target in pairs]
    random.Random(1).shuffle(targets)
    shuffled = [(source, target) for (source, _), target in zip(pairs, targets, strict=True)]
    data = write_tsv(tmp_path / "pairs.tsv", shuffled)
    events = []
    train(data, tmp_path / "model", settings=TINY, report=events.append)
    warnings = [event.text for event in events if isinstance(event, Warned)]
    assert any("hardly depends on the source" in text for text in warnings)


@pytest.mark.slow
def test_values_of_a_configuration_file_outrank_the_preset(tmp_path, few_pairs_file):
    text = """
preset = "tiny"
[model]
dim = 32
num_heads = 2
dropout = 0.3
[training]
epochs = 1
batch_tokens = 128
"""
    (tmp_path / "config.toml").write_text(text)
    translator = train(few_pairs_file, tmp_path / "model", config=tmp_path / "config.toml")
    found = translator.config
    assert (found.model.dim, found.model.num_heads, found.model.dropout) == (32, 2, 0.3)
    assert found.model.hidden_dim == 512
    assert found.training.batch_tokens == 128
    assert found.optimizer.learning_rate is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        ("tokenizer.kind=unigram", "model.norm=post", "optimizer.name=adamw"),
        ("tokenizer.kind=word", "model.positions=learned", "training.precision=float32"),
        ("tokenizer.kind=character", "model.tied=none"),
        ("tokenizer.kind=byte", "training.average=0.0"),
    ],
    ids=" ".join,
)
def test_every_choice_trains_and_translates(tmp_path, few_pairs_file, choices):
    settings = (*TINY, *choices, "training.epochs=1")
    translator = train(few_pairs_file, tmp_path / "model", settings=settings)
    for beam in (1, 2):
        assert len(translator.translate(["3 red cat sees the dog"], beam=beam)) == 1


@pytest.mark.slow
def test_a_time_budget_is_kept(tmp_path, pairs_file):
    events = []
    settings = (*TINY[:-1], "training.minutes=0.1")
    train(pairs_file, tmp_path / "model", settings=settings, report=events.append)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.seconds == pytest.approx(6, abs=2.5)
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    assert 1 <= len(evaluations) <= 12


def test_a_short_budget_has_fewer_evaluations(pairs_file):
    setup = _setup(pairs_file, "training.minutes=1")
    slow = Measurement(step_seconds=0.1, evaluation_seconds=2.0, memory_bytes=1)
    plan, _ = make_plan(setup, slow, 0.0)
    assert plan.evaluations_after(0) == 3
    fast = msgspec.structs.replace(slow, evaluation_seconds=0.1)
    plan, _ = make_plan(setup, fast, 0.0)
    assert plan.evaluations_after(0) == setup.config.training.evaluations


@pytest.mark.parametrize(("precision", "kernels"), [("float32", 0), ("bf16", 24)])
def test_the_memory_of_a_plan_counts_the_kernels_of_bfloat16(pairs_file, precision, kernels):
    setup = _setup(pairs_file, f"training.precision={precision}")
    measured = Measurement(step_seconds=0.1, evaluation_seconds=0.1, memory_bytes=10**9)
    _, planned = make_plan(setup, measured, 0.0)
    sizes = {*setup.batches.padded_sizes(setup.batches.order(0))}
    assert planned.memory_bytes == 10**9 + kernels * len(sizes) * 600_000


@pytest.mark.slow
def test_the_time_of_overlong_outputs_is_not_charged_to_coming_evaluations(pairs_file):
    setup = _setup(pairs_file, "training.minutes=1")
    found = setup.evaluator()(ExponentialMovingAverage(setup.model, 0.0))
    assert found.overlong_seconds > 0  # random weights never end a sentence


def _setup(pairs_file, setting):
    settings = (*TINY[:-1], setting)
    task = TASKS["translation"]
    config = decide(*settings)
    data = msgspec.structs.replace(config.data, path=str(pairs_file))
    config = msgspec.structs.replace(config, data=data)
    corpus = task.read(ReadOptions.from_config(config))
    tokenizer = Tokenizer.train(corpus.texts(), config.tokenizer)
    model = build_model(config, len(tokenizer), task)
    parts = RunParts(config=config, dataset=corpus, tokenizer=tokenizer, model=model)
    return task.set_up(parts, ignore_events)


@pytest.mark.slow
def test_patience_ends_a_run_that_no_longer_improves(tmp_path, pairs_file):
    events = []
    still = ("optimizer.name=adamw", "optimizer.learning_rate=1e-12", "training.average=0")
    settings = (*TINY[:-1], *still, "training.epochs=50", "training.patience=1")
    train(pairs_file, tmp_path / "model", settings=settings, report=events.append)
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    assert len(evaluations) <= 3
    assert not evaluations[-1].is_best


@pytest.mark.slow
def test_an_evaluation_has_floors_latency_worst_and_a_verdict(trained, tmp_path):
    translator = load(trained)
    data = write_tsv(tmp_path / "test.tsv", toy_pairs(500)[-60:])
    options = EvaluationOptions(model="toy", other="toy", beam=1, num_worst=5, allow_overlap=True)
    report = evaluate_translator(translator, open_source(data), options, translator)
    assert report.scores.chrf.low <= report.scores.chrf.value <= report.scores.chrf.high
    assert report.copy_chrf > 0
    assert report.neighbour_chrf is not None
    assert 0 < report.latency_p50 <= report.latency_p95
    assert len(report.worst) == 5
    assert report.verdict
    assert report.comparison is not None
    assert report.comparison.chrf.difference == 0


def test_a_test_file_that_overlaps_with_training_is_refused(trained, pairs_file):
    translator = load(trained)
    with pytest.raises(DataError, match="Scores would be too good"):
        evaluate_translator(translator, open_source(pairs_file), EvaluationOptions(model="toy"))
    dropping = EvaluationOptions(model="toy", beam=1, drop_overlap=True)
    report = evaluate_translator(translator, open_source(pairs_file), dropping)
    assert 0 < report.num_rows < 100


@pytest.mark.slow
def test_a_run_whose_report_is_closed_saves_first(tmp_path, pairs_file):
    def fail(event):
        if isinstance(event, Evaluated):
            raise BrokenPipeError(32, "Broken pipe")

    folder = tmp_path / "m"
    with pytest.raises(ResourceError, match=r"cannot be written \(Broken pipe\)") as error:
        train(pairs_file, folder, settings=TINY, report=fail)
    assert error.value.next_steps[0].settings == (("output", str(folder)), ("resume", ""))
    assert (folder / "checkpoints" / "last.safetensors").exists()


def test_a_run_in_python_needs_the_name_of_its_folder(pairs_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (lambda: regard.train(pairs_file, ""), lambda: regard.resume("")):
        with pytest.raises(ConfigError, match="`output`: an empty name"):
            call()
    assert list(tmp_path.iterdir()) == []
