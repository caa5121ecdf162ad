"""Processes of torchrun take a GPU each, where there are as many that PyTorch can use."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from regard.training import launch
from regard.training.launch import choose_gpu, have_own_gpus


@pytest.fixture
def taken(monkeypatch):
    """The numbers of the GPUs that were taken, of two that are there."""
    numbers = []

    def properties(index):
        return SimpleNamespace(pci_domain_id=0, pci_bus_id=16 * index, pci_device_id=0)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", numbers.append)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(launch, "why_unusable", lambda index: None)
    return numbers


def test_processes_take_the_gpus_in_turn(taken):
    gpus = [choose_gpu(local_rank) for local_rank in range(4)]
    assert taken == [0, 1, 0, 1]
    assert gpus == ["0:0:0", "0:16:0", "0:0:0", "0:16:0"]
    assert have_own_gpus(["a"] * 2, gpus[:2])
    assert not have_own_gpus(["a"] * 4, gpus)
    assert have_own_gpus(["a", "a", "b", "b"], gpus)


def test_a_process_that_sees_its_own_gpu_alone_takes_it(taken, monkeypatch):
    """As Slurm lets it, with a GPU bound to each process."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_gpu(3) == "0:0:0"
    assert taken == [0]


def test_a_gpu_that_pytorch_cannot_use_is_none(taken, monkeypatch):
    monkeypatch.setattr(launch, "why_unusable", lambda index: "the driver is too old")
    assert choose_gpu(0) is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_gpu(0) is None
    assert taken == []
    assert not have_own_gpus(["a", "a"], ["0:0:0", None])


def test_a_gpu_that_others_fill_ends_no_run_that_may_not_need_it(taken, monkeypatch):
    def fail(index):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(launch, "why_unusable", fail)
    assert choose_gpu(0) is None
    assert taken == []
