"""A model in DistributedDataParallel: two processes give the gradient of one, and drop apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.processes import start_process
from torch.nn.parallel import DistributedDataParallel

from regard.models import Gpt, GptConfig

pytestmark = pytest.mark.slow

IDS = torch.tensor([[5, 6, 7, 8], [9, 4, 2, 3]])


def build(dropout: float) -> Gpt:
    torch.manual_seed(0)
    config = GptConfig(num_layers=1, dim=8, num_heads=2, hidden_dim=8, dropout=dropout)
    return Gpt(config, 20)


def gradient(model: Gpt | DistributedDataParallel, ids: torch.Tensor) -> torch.Tensor:
    model(ids).logsumexp(-1).mean().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def run(rank: int, folder: Path) -> None:
    """Compute in one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    of_both = gradient(DistributedDataParallel(build(0.0)), IDS[rank : rank + 1])
    model = build(0.5)
    torch.manual_seed(rank)
    dropped = model(IDS).detach()
    torch.save({"gradient": of_both, "dropped": dropped}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("ranks")
    processes = [start_process(run, rank, folder) for rank in range(2)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_give_the_gradient_of_one(results):
    assert torch.equal(results[0]["gradient"], results[1]["gradient"])
    torch.testing.assert_close(results[0]["gradient"], gradient(build(0.0), IDS))


def test_two_processes_with_seeds_of_their_own_drop_apart(results):
    assert not torch.equal(results[0]["dropped"], results[1]["dropped"])
