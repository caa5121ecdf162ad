"""A run that is killed on some processes, and resumed on others, ends as if it was not.

`cases` run on three processes, see `tests.training.ranks`.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import toy_pairs, write_tsv

import regard
from regard.errors import ResourceError
from regard.hub.model_folder import ModelFolder
from regard.hub.storage import read_tensors
from regard.layers.attention_config import AttentionConfig
from regard.runs.run import ignore_events, resume, train
from regard.runs.session import RunSession
from regard.runs.session_setup import SessionContext
from regard.setup import estimate
from regard.setup.request import Request
from regard.training.checkpoint import checkpoint_path
from regard.training.distribution import ALONE, World
from regard.training.events import Planned
from regard.training.loop import Trainer

pytestmark = pytest.mark.slow

SETTINGS = (
    "preset=tiny",
    "model.dim=8",
    "model.hidden_dim=8",
    "model.num_heads=2",
    "model.num_encoder_layers=1",
    "model.num_decoder_layers=1",
    "model.dropout=0.1",
    "tokenizer.vocab_size=300",
    "training.batch_tokens=256",
    "training.epochs=1",
    "training.precision=float32",
    "training.deterministic=true",
    "training.checkpoint_seconds=0",
    "search.max_length=4",
)


class KilledError(Exception):
    """Ends a session without a word."""


def kill_after(step: int) -> None:
    """Let sessions end once a step is done, on every process; 0 lets them be."""

    def take_step(trainer: Trainer, counters: Any) -> None:
        if counters.step == step > 0:
            raise KilledError
        original(trainer, counters)

    original = _TAKE_STEP
    Trainer._take_step = take_step


_TAKE_STEP = Trainer._take_step


def killed(session: Any) -> bool:
    """Return whether a session has ended early."""
    try:
        session()
    except KilledError:
        return True
    return False


def ending(folder: Path) -> dict[str, Any]:
    """Return what a finished run leaves: all tensors, as text, and the steps."""
    tensors, state = read_tensors(checkpoint_path(folder))
    weights, _ = read_tensors(folder / "model.safetensors")
    del tensors["random"]  # of the process that wrote it; every step has a seed of its own
    counters = state["counters"]
    return {
        "tensors": {name: repr(tensor.tolist()) for name, tensor in sorted(tensors.items())},
        "weights": {name: repr(tensor.tolist()) for name, tensor in sorted(weights.items())},
        "best": counters["best_measures"],
        "step": counters["step"],
    }


def cases(folder: Path, worlds: dict[int, World], rank: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    if rank == 0:
        train(folder / "pairs.tsv", folder / "straight", settings=SETTINGS)
        results["straight"] = ending(folder / "straight")
    worlds[3].barrier()

    kill_after(2)
    run = folder / "run"
    if rank < 2:
        results["killed on 2"] = killed(
            lambda: train(folder / "pairs.tsv", run, settings=SETTINGS, world=worlds[2])
        )
    worlds[3].barrier()
    if rank == 0:
        shutil.copytree(run, folder / "resumed alone")
    kill_after(4)
    results["killed on 3"] = killed(lambda: resume(run, world=worlds[3]))
    kill_after(0)
    if rank < 2:
        resume(run, world=worlds[2])
    if rank == 0:
        results["2, 3 and 2 processes"] = ending(run)
        resume(folder / "resumed alone", world=ALONE)
        results["2 processes and 1"] = ending(folder / "resumed alone")
    results["in parts"] = in_parts(folder, worlds, rank)
    if rank < 2:
        results["by memory"] = by_memory(folder, worlds[2])
        results["bf16"] = in_bf16(folder, worlds[2])
    return results


def by_memory(folder: Path, world: World) -> dict[str, Any]:
    """Return how a run begins and ends where the whole model does not fit in one process."""
    settings = (*SETTINGS, "training.deterministic=false")
    request = Request.parse(settings, paths={"path": str(folder / "pairs.tsv")})
    context = SessionContext(ModelFolder("unused"), ignore_events, time.monotonic(), world)
    setup = RunSession.from_request(request, context).setup
    length = setup.batches.longest
    tokens = estimate.largest_batch_tokens(setup.config.training, 2, length)
    library_bytes, free_memory_bytes = estimate._LIBRARY_BYTES, estimate.free_memory_bytes
    estimate._LIBRARY_BYTES = 0  # more than such a model
    needs = [
        estimate.predict_training_bytes(setup.model, AttentionConfig(), tokens, length, num_parts)
        for num_parts in (1, 2)
    ]
    results: dict[str, Any] = {"needs": needs}
    for name, free in (("parts fit", sum(needs)), ("nothing fits", needs[1])):
        estimate.free_memory_bytes = lambda free=free: free
        run, plans = folder / name, []
        try:
            train(folder / "pairs.tsv", run, settings=settings, report=plans.append, world=world)
            results[name] = checkpoint_path(run).name
        except ResourceError as error:
            results[name] = str(error)
        results[f"plans where {name}"] = [
            plan.parallel for plan in plans if isinstance(plan, Planned)
        ]
    estimate._LIBRARY_BYTES, estimate.free_memory_bytes = library_bytes, free_memory_bytes
    return results


def in_bf16(folder: Path, world: World) -> dict[str, list[float]]:
    """Return the losses of runs in bf16, of processes with the whole model, and with parts."""
    losses = {}
    for parallel in ("ddp", "fsdp"):
        run = folder / f"bf16-{parallel}"
        settings = ("training.deterministic=false", "training.precision=bf16")
        settings = (*SETTINGS, *settings, f"training.parallel={parallel}")
        train(folder / "pairs.tsv", run, settings=settings, world=world)
        lines = ModelFolder(run).read_metrics() if world.is_first else []
        losses[parallel] = [
            line["measures"]["loss"] for line in lines if line["event"] == "evaluated"
        ]
    return losses


def in_parts(folder: Path, worlds: dict[int, World], rank: int) -> dict[str, Any]:
    """Return what a run leaves whose processes hold parts of the model, killed and resumed."""
    results: dict[str, Any] = {}
    settings = (*SETTINGS, "training.deterministic=false", "training.parallel=fsdp")
    run = folder / "parts"
    kill_after(2)
    if rank < 2:
        results["killed on 2"] = killed(
            lambda: train(folder / "pairs.tsv", run, settings=settings, world=worlds[2])
        )
    worlds[3].barrier()
    if rank == 0:
        shutil.copytree(run, folder / "parts alone")
    kill_after(4)
    results["killed on 3"] = killed(lambda: resume(run, world=worlds[3]))
    results["path"] = checkpoint_path(run).name
    kill_after(0)
    worlds[3].barrier()
    if rank < 2:
        resume(run, world=worlds[2])
    if rank == 0:
        results["2, 3 and 2 processes"] = weights(run)
        resume(folder / "parts alone", world=ALONE)
        results["2 processes and 1"] = weights(folder / "parts alone")
        results["path alone"] = checkpoint_path(folder / "parts alone").name
        results["opened"] = regard.load(run).translate(["red house"])
    return results


def weights(folder: Path) -> list[float]:
    """Return the weights of a finished run that have an influence.

    The bias of keys adds the same number to all scores of a query: its gradient is differences of
    rounding, of which AdamW makes whole steps.
    """
    tensors, _ = read_tensors(folder / "model.safetensors")
    parts = []
    for name, tensor in sorted(tensors.items()):
        values = tensor.flatten()
        if name.endswith("key_value.bias"):  # of keys and values, or of queries too
            *queries, _, own_values = values.split(8)
            values = torch.cat([*queries, own_values])
        parts.append(values)
    return torch.cat(parts).tolist()


def prepare(folder: Path) -> None:
    """Write the data."""
    write_tsv(folder / "pairs.tsv", toy_pairs(150))


@pytest.fixture(scope="module")
def results(results_of_ranks):
    """The results of each rank."""
    return results_of_ranks["loop"]


@pytest.mark.parametrize("way", ["2 processes and 1", "2, 3 and 2 processes"])
def test_a_run_ends_in_the_same_bits_on_any_processes(results, way):
    assert results[0]["killed on 2"]
    assert all(rank["killed on 3"] for rank in results)
    assert results[0]["straight"]["step"] > 4
    assert results[0][way] == results[0]["straight"]


def test_a_run_in_parts_is_resumed_on_any_processes(results):
    outcome = results[0]["in parts"]
    assert outcome["killed on 2"]
    assert all(rank["in parts"]["killed on 3"] for rank in results)
    assert outcome["path"] == "last.json"
    ends = [torch.tensor(outcome[way]) for way in ("2 processes and 1", "2, 3 and 2 processes")]
    # Sums of float32 are taken in another order, and Muon makes directions of small differences.
    torch.testing.assert_close(*ends, atol=1e-4, rtol=0)


def test_a_model_that_does_not_fit_in_one_process_is_shared_out(results):
    outcomes = [rank["by memory"] for rank in results[:2]]
    assert outcomes[0]["needs"][1] < outcomes[0]["needs"][0]
    assert [outcome["parts fit"] for outcome in outcomes] == ["last.json"] * 2
    assert outcomes[0]["plans where parts fit"] == ["fsdp"]
    assert all("are free (batch of 256 tokens)" in o["nothing fits"] for o in outcomes)


def test_parts_in_bf16_have_the_losses_of_the_whole_model_in_bf16(results):
    losses = {name: torch.tensor(values) for name, values in results[0]["bf16"].items()}
    assert len(losses["ddp"]) == 1
    torch.testing.assert_close(losses["fsdp"], losses["ddp"], atol=0.01, rtol=0)


def test_a_run_in_parts_ends_as_one_ordinary_file_of_weights(results):
    outcome = results[0]["in parts"]
    assert outcome["path alone"] == "last.safetensors"
    assert len(outcome["opened"]) == 1
