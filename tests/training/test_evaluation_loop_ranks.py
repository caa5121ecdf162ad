"""Evaluations that processes share: the figures of one process, to the last bit.

`cases` run on three processes, see `tests.training.ranks`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.answers import write_questions
from tests.conftest import TINY, toy_pairs, write_tsv

from regard.errors import RegardError
from regard.generation import scheduling
from regard.hub.model_folder import ModelFolder
from regard.runs.run import ignore_events
from regard.runs.scoring import evaluate
from regard.runs.session import RunSession
from regard.runs.session_setup import SessionContext
from regard.setup.request import Request
from regard.setup.shared_predictor import shared_predictor
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.forecasting import predictor as forecasting_predictor
from regard.tasks.forecasting import task as forecasting_task
from regard.tasks.language_modeling import loss as language_modeling_loss
from regard.tasks.masked_language_modeling import task as masked_task
from regard.tasks.question_answering.predictor import QuestionAnswerer
from regard.tasks.sequence_to_sequence import decode_rows, evaluator
from regard.training.distribution import ALONE, World
from regard.training.ema import ExponentialMovingAverage

pytestmark = pytest.mark.slow

ENCODER = (
    "model.dim=16",
    "model.hidden_dim=16",
    "model.num_heads=2",
    "model.num_layers=1",
    "training.precision=float32",
)
TEXT = (*ENCODER, "tokenizer.vocab_size=300", "data.max_length=32")
WRITER = (*TINY, "training.precision=float32", "search.max_length=8", "search.beam=2")
SETTINGS = {
    "translation": ("pairs.tsv", WRITER),
    "classification": ("rows.jsonl", TEXT),
    "language-modeling": ("book.txt", TEXT),
    "masked-language-modeling": ("book.txt", (*TEXT, "task=masked-language-modeling")),
    "question-answering": ("questions.jsonl", (*TEXT, "qa.overlap=8")),
    "written answers": ("questions.jsonl", (*WRITER, "qa.kind=generative")),
    "forecasting": ("hours.csv", (*ENCODER, "model.num_members=1", "forecast.horizon=8")),
}
SCORED = "translation"


def prepare(folder: Path) -> None:
    """Write the data of all tasks, and other pairs to be scored."""
    pairs = toy_pairs(120)
    write_tsv(folder / "pairs.tsv", pairs)
    write_tsv(folder / "other.tsv", toy_pairs(20, seed=9))
    for number, name in enumerate(("here", "there")):
        (folder / name).mkdir()
        write_tsv(folder / name / "scored.tsv", toy_pairs(20, seed=number))
    write_tsv(folder / "here" / "here.tsv", toy_pairs(20))
    (folder / "here" / "compared").symlink_to(folder / f"{SCORED}-1-False-0")
    (folder / "book.txt").write_text("".join(f"{source}.\n" for source, _ in pairs))
    rows = [f'{{"text": "{s}", "label": "{"ab"[len(s) % 2]}"}}\n' for s, _ in pairs]
    (folder / "rows.jsonl").write_text("".join(rows))
    write_questions(folder / "questions.jsonl", 40, 1, num_words=25, num_facts=2, unanswerable=0.4)
    times = np.datetime64("2024-01-01T00") + np.arange(400).astype("timedelta64[h]")
    values = [f"{time}:00,{10 + 3 * np.sin(i / 4):.4f}\n" for i, time in enumerate(times)]
    (folder / "hours.csv").write_text("time,load\n" + "".join(values))


def make_small_batches() -> None:
    """Make the batches of evaluations so small that every rank has some."""
    scheduling.DECODING_TOKENS = decode_rows.DECODING_TOKENS = evaluator.DECODING_TOKENS = 64
    language_modeling_loss.EVALUATED_TOKENS = masked_task.EVALUATED_TOKENS = 64
    TextClassifier.batches.__kwdefaults__["batch_tokens"] = 32
    QuestionAnswerer.batches.__kwdefaults__["batch_tokens"] = 128
    forecasting_task.window_batches.__kwdefaults__["batch_tokens"] = 32
    forecasting_predictor._FORECAST_TOGETHER = 1


def evaluate_task(name: str, folder: Path, world: World, rank: int) -> dict[str, Any]:
    """Return what an untrained model of a task scores while it trains and at its end."""
    file, settings = SETTINGS[name]
    request = Request.parse(settings, paths={"path": str(folder / file)})
    # Rank 0 alone sees the folder.
    path = folder / f"{name}-{world.size}-{world.is_shared}-{rank}"
    model_folder = ModelFolder(path)
    context = SessionContext(model_folder, ignore_events, time.monotonic(), world)
    run = RunSession.from_request(request, context)
    setup = run.setup
    average = ExponentialMovingAverage(setup.model, 0.0)
    evaluation = setup.evaluator()(average)
    if world.is_first:
        model_folder.create()
        model_folder.write_config(setup.config)
        if setup.tokenizer is not None:
            model_folder.write_tokenizer(setup.tokenizer)
        model_folder.write_weights(average.weights())
    with shared_predictor(run.task, path, setup) as predictor:
        calibration = setup.calibrate(predictor)
        report = setup.evaluate_test(predictor, evaluation.measures)
    return {
        "measures": evaluation.measures,
        "calibration": calibration,
        "test": report.test,
        "summary": report.summary,
        "is alone afterwards": getattr(predictor, "world", ALONE) is ALONE,
    }


def evaluate_file(folder: Path, world: World) -> dict[str, Any]:
    """Return the scores of a finished model on a file."""
    model = folder / f"{SCORED}-1-False-0"
    report, *_ = evaluate(model, folder / "other.tsv", allow_overlap=True, world=world)
    return {"scores": report.intervals, "floors": report.floors, "worst": repr(report.worst)}


def error_of(action: Callable[[], object]) -> str:
    """Return the message of the error that an action ends in."""
    try:
        action()
    except RegardError as error:
        return str(error)
    return "no error"


def cases(folder: Path, worlds: dict[int, World], rank: int) -> dict[str, Any]:
    make_small_batches()
    results = {}
    for size, world in {"alone": ALONE, "2": worlds.get(2), "3": worlds[3]}.items():
        if world is None or (world is ALONE and rank > 0):
            continue
        for name in SETTINGS:
            if size != "2" or name == SCORED:
                results[f"{name} {size}"] = evaluate_task(name, folder, world, rank)
        if size != "2":
            results[f"file {size}"] = evaluate_file(folder, world)
    # Every rank names its file alike; that of rank 1 has another content.
    os.chdir(folder / ("there" if rank == 1 else "here"))
    model = folder / f"{SCORED}-1-False-0"
    results["another file"] = error_of(
        lambda: evaluate(model, "scored.tsv", allow_overlap=True, world=worlds[3])
    )
    results["no file"] = error_of(
        lambda: evaluate(model, "here.tsv", allow_overlap=True, world=worlds[3])
    )
    results["no other model"] = error_of(
        lambda: evaluate(model, "scored.tsv", compare="compared", world=worlds[3])
    )
    results["other numbers"] = error_of(lambda: worlds[3].map(str, range(2 + rank)))
    return results


@pytest.fixture(scope="module")
def results(results_of_ranks):
    """The results of each rank."""
    return results_of_ranks["evaluation_loop"]


@pytest.mark.parametrize("name", [*SETTINGS, "file"])
def test_figures_are_the_same_for_any_number_of_processes(results, name):
    expected = results[0][f"{name} alone"]
    assert len(expected) > 1
    assert all(rank[f"{name} 3"] == expected for rank in results)


def test_two_processes_score_what_three_do(results):
    assert results[1]["translation 2"] == results[2]["translation 3"]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_model_is_used_alone_after_its_test(results, name):
    assert all(rank[f"{name} 3"]["is alone afterwards"] for rank in results)


def test_another_file_of_a_rank_is_named(results):
    for rank in results:
        assert "rank 1: the content of scored.tsv is" in rank["another file"]


def test_a_file_or_a_model_that_a_rank_does_not_have_is_named_on_all(results):
    for rank in results:
        assert rank["no file"].startswith("rank 1: here.tsv: no such file")
        assert rank["no other model"].startswith("rank 1: compared: ")


def test_other_numbers_of_batches_are_refused(results):
    assert all("other numbers of batches" in rank["other numbers"] for rank in results)


def test_test_data_is_scored_on_all_processes(results):
    assert {"chrf", "bleu"} <= results[2]["translation 3"]["test"].keys()
    assert "no_answer_threshold" in results[2]["question-answering 3"]["calibration"]
    assert "no_answer_threshold" in results[2]["written answers 3"]["calibration"]
    assert "band_80" in results[2]["forecasting 3"]["calibration"]
