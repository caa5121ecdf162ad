"""Checkpoints between processes: written by some, read by others, whole or in parts.

`cases` run on three processes, see `tests.training.ranks`.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from regard.errors import RegardError
from regard.training import sharded_checkpoint
from regard.training.checkpoint import (
    Counters,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from regard.training.distribution import ALONE, World
from regard.training.ema import ExponentialMovingAverage
from regard.training.plan import Plan
from regard.training.train_step import Loss, MiniBatchStep
from regard.training.training_config import OptimizerConfig

pytestmark = pytest.mark.slow

RANDOM_STATE = torch.get_rng_state().shape
ROWS = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))


def loss(model: nn.Module, rows: torch.Tensor) -> Loss:
    value = F.mse_loss(model(rows), rows.sum(-1, keepdim=True))
    return Loss(loss=value, nll=value.detach(), num_tokens=len(rows))


class Session:
    """One session of a run: model, average and optimizer, whole or in parts.

    Args:
        world: Its processes.
        seed: Of the weights.
        uses_fsdp: Whether each process holds a part of the model.
    """

    def __init__(self, world: World, seed: int, *, uses_fsdp: bool = False) -> None:
        torch.manual_seed(seed)
        # A size that no number of processes divides, one that leaves some without a row, and that
        # of the state of the random number generator, which is no part of the model.
        self.model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))
        self.model[1].register_parameter("unused", nn.Parameter(torch.randn(RANDOM_STATE)))
        self.world = world
        if uses_fsdp:
            mesh = DeviceMesh.from_group(world.control, "cpu")
            for module in (self.model[0], self.model[2], self.model):
                fully_shard(module, mesh=mesh)
        self.average = ExponentialMovingAverage(self.model, 0.9)
        config = OptimizerConfig(name="adamw", learning_rate=0.01)
        self.stepper = MiniBatchStep(self.model, loss, config)

    def train(self, steps: int) -> None:
        for step in range(1, steps + 1):
            self.stepper.step(ROWS, 0.5)
            self.average.update(step)

    def save(self, folder: Path, step: int) -> Path:
        counters = Counters(plan=Plan.from_start(100, evaluate_every=10), step=step, position=3)
        return save_checkpoint(folder, counters, self.model, self.average, self.stepper, self.world)

    def load(self, folder: Path) -> Counters:
        return load_checkpoint(folder, self.model, self.average, self.stepper, self.world)

    def state(self) -> dict[str, list[float]]:
        """Return weights, average and optimizer state, whole."""
        tensors = {f"model.{name}": value for name, value in self.model.named_parameters()}
        tensors |= {f"average.{name}": value for name, value in self.average.tensors.items()}
        tensors |= self.stepper.state()
        return {
            name: (value.full_tensor() if isinstance(value, DTensor) else value).tolist()
            for name, value in tensors.items()
        }


def read_back(folder: Path, worlds: dict[int, World], rank: int) -> dict[str, Any]:
    """Return what sessions of all kinds have after they read a checkpoint."""
    results: dict[str, Any] = {}
    ways = {"whole on 3": (worlds[3], False), "parts on 3": (worlds[3], True)}
    if rank < 2:
        ways["parts on 2"] = (worlds[2], True)
    if rank == 0:
        ways["alone"] = (ALONE, False)
        ways["parts on 1"] = (worlds[1], True)
    for name, (world, uses_fsdp) in ways.items():
        # Where the model is whole, the first process alone sees the folder.
        path = folder if uses_fsdp or rank == 0 else folder / "elsewhere"
        session = Session(world, seed=5, uses_fsdp=uses_fsdp)
        counters = session.load(path)
        results[name] = {"state": session.state(), "step": counters.step}
        session.train(1)  # the optimizer can use what it has got
        assert counters.position == 3
    return results


def error_of(action: Any) -> str:
    """Return the message of the error that an action ends in."""
    try:
        action()
    except RegardError as error:
        return str(error)
    return "no error"


def damaged(folder: Path, worlds: dict[int, World], rank: int) -> dict[str, str]:
    """Return what is said of checkpoints that cannot be read."""
    messages = {}
    for name in ("cut", "pickle", "missing", "index"):
        copy = folder.parent / f"{folder.name}-{name}"
        if rank == 0:
            shutil.copytree(folder, copy)
            (parts,) = (copy / "checkpoints").glob("step-*")
            (first, *_) = sorted(parts.iterdir())
            if name == "cut":
                first.write_bytes(first.read_bytes()[:-1] + b"?")
            elif name == "pickle":
                (parts / ".metadata").write_bytes(b"\x80\x02.")
            elif name == "missing":
                first.unlink()
            else:
                index = copy / "checkpoints" / "last.json"
                index.write_text(index.read_text().replace('"step": 2', '"step": 9'))
        worlds[3].barrier()
        session = Session(worlds[3], seed=5, uses_fsdp=True)
        messages[name] = error_of(lambda s=session, c=copy: s.load(c))
        if rank == 0:
            alone = Session(ALONE, seed=5)
            messages[f"{name} alone"] = error_of(lambda s=alone, c=copy: s.load(c))
    return messages


def interrupted(session: Session, folder: Path, rank: int) -> dict[str, Any]:
    """Return what is left where a process cannot write its part, or does not see the folder."""
    before = session.state()
    session.train(1)
    write = sharded_checkpoint.save

    def fill(*arguments: Any, **options: Any) -> None:
        write(*arguments, **options)
        if rank == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sharded_checkpoint.save = fill
    full = error_of(lambda: session.save(folder, 3))
    sharded_checkpoint.save = write
    unseen = error_of(lambda: session.save(folder if rank == 0 else folder / "elsewhere", 3))
    after = Session(session.world, seed=6, uses_fsdp=True)
    return {
        "full": full,
        "unseen": unseen,
        "is intact": after.load(folder).step == 2 and after.state() == before,
        "files": names(folder),
    }


def names(folder: Path) -> list[str]:
    """Return the names of checkpoints and their files."""
    checkpoints = folder / "checkpoints"
    return sorted(str(path.relative_to(checkpoints)) for path in checkpoints.rglob("*"))


def cases(folder: Path, worlds: dict[int, World], rank: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    whole, parts = folder / "whole", folder / "parts"
    if rank == 0:
        session = Session(ALONE, seed=0)
        session.train(2)
        session.save(whole, 2)
        results["whole"] = session.state()
    worlds[3].barrier()
    results["read whole"] = read_back(whole, worlds, rank)

    if rank < 2:
        session = Session(worlds[2], seed=0, uses_fsdp=True)
        session.train(2)
        results["path"] = str(session.save(parts, 1))
        session.save(parts, 2)
        results["parts"] = session.state()
        results["files of parts"] = names(parts)
    worlds[3].barrier()
    results["read parts"] = read_back(parts, worlds, rank)
    results["damaged"] = damaged(parts, worlds, rank)
    if rank < 2:
        results["interrupted"] = interrupted(session, parts, rank)
        session.save(parts, 2)  # a step again
        results["files of the same step"] = names(parts)
    worlds[3].barrier()

    # A run goes on as a whole, then in parts; a killed one leaves both.
    session = Session(worlds[3], seed=5)
    session.load(parts)
    if rank == 0:
        shutil.copytree(parts, folder / "both")
    session.save(parts, 4)
    results["files of a whole"] = names(parts)
    worlds[3].barrier()
    if rank == 0:
        shutil.copy(parts / "checkpoints" / "last.safetensors", folder / "both" / "checkpoints")
        results["newer of both"] = checkpoint_path(folder / "both").name
        session = Session(ALONE, seed=5)
        session.save(folder / "both", 1)
        shutil.copytree(folder / "both", folder / "old")
    worlds[3].barrier()
    session = Session(worlds[3], seed=5, uses_fsdp=True)
    session.load(parts)
    session.save(parts, 5)
    worlds[3].barrier()
    results["files of parts again"] = names(parts)
    return results


def prepare(folder: Path) -> None:
    """Write nothing: there is no data."""


@pytest.fixture(scope="module")
def results(results_of_ranks):
    """The results of each rank."""
    return results_of_ranks["checkpoint"]


@pytest.mark.parametrize("kind", ["whole", "parts"])
@pytest.mark.parametrize("way", ["alone", "whole on 3", "parts on 1", "parts on 2", "parts on 3"])
def test_a_checkpoint_is_read_on_any_number_of_processes(results, kind, way):
    expected = results[0][kind]
    read = [rank[f"read {kind}"][way] for rank in results if way in rank[f"read {kind}"]]
    assert len(read) == {"alone": 1, "parts on 1": 1, "parts on 2": 2}.get(way, 3)
    assert all(entry == {"state": expected, "step": 2} for entry in read)


def test_each_process_writes_a_file_of_safetensors_and_nothing_is_pickled(results):
    folder = "step-00000002"
    shards = [f"{folder}/shard-0000{n}-model-00001-of-00001.safetensors" for n in (1, 2)]
    assert results[0]["files of parts"] == ["last.json", folder, *shards]
    assert results[1]["path"].endswith("parts/checkpoints/last.json")


def test_a_damaged_part_is_named_on_every_process(results):
    for rank in results:
        messages = rank["damaged"]
        assert "shard-00001-model-00001-of-00001.safetensors: damaged" in messages["cut"]
        assert "shard-00001-model-00001-of-00001.safetensors: missing" in messages["missing"]
        assert "last.json: damaged: the checksum does not agree" in messages["index"]


def test_a_pickle_in_the_folder_is_refused_by_its_name(results):
    for message in (
        *(r["damaged"]["pickle"] for r in results),
        results[0]["damaged"]["pickle alone"],
    ):
        assert "step-00000002/.metadata: not a file of this checkpoint" in message
        assert "a pickle can run any code" in message


def test_a_damaged_part_is_named_where_one_process_reads_all(results):
    messages = results[0]["damaged"]
    assert "damaged" in messages["cut alone"]
    assert "missing" in messages["missing alone"]
    assert "damaged" in messages["index alone"]


def test_a_full_disk_of_one_process_leaves_the_previous_checkpoint(results):
    for rank in results[:2]:
        outcome = rank["interrupted"]
        assert "the disk is full" in outcome["full"]
        assert outcome["is intact"]
        assert outcome["files"] == results[0]["files of parts"]


def test_a_process_that_does_not_see_the_folder_is_named(results):
    for rank in results[:2]:
        message = rank["interrupted"]["unseen"]
        assert "rank 1" in message or rank is results[1]
        assert "`training.parallel=ddp`" in message


def test_a_step_that_is_saved_again_replaces_its_folder_at_once(results):
    folder = "step-00000002-1"
    shards = [f"{folder}/shard-0000{n}-model-00001-of-00001.safetensors" for n in (1, 2)]
    assert results[0]["files of the same step"] == ["last.json", folder, *shards]


def test_one_kind_of_checkpoint_replaces_the_other(results):
    assert results[0]["files of a whole"] == ["last.safetensors"]
    assert results[0]["files of parts again"][:2] == ["last.json", "step-00000005"]
    assert len(results[0]["files of parts again"]) == 5


def test_the_newer_of_two_kinds_counts(results):
    assert results[0]["newer of both"] == "last.safetensors"
