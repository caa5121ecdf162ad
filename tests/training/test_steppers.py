"""A run that asks for it repeats its bits: by threads of a CPU, by PyTorch's methods for a GPU."""

from __future__ import annotations

import os

import pytest
import torch

from regard.errors import ConfigError
from regard.training.steppers import reproducible
from regard.training.training_config import TrainingConfig

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    return monkeypatch


def test_a_gpu_takes_methods_of_a_fixed_order_within_the_run_alone():
    with reproducible(TrainingConfig(deterministic=True), GPU):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_setting_of_the_program_comes_back():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with reproducible(TrainingConfig(deterministic=True), GPU):
            pass
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("is_asked", "device"), [(True, CPU), (False, GPU)])
def test_other_runs_change_nothing_of_a_gpu(is_asked, device):
    with reproducible(TrainingConfig(deterministic=is_asked), device):
        assert not torch.are_deterministic_algorithms_enabled()


def test_what_has_no_fixed_order_is_refused_by_name():
    message = (
        "cumsum_cuda_kernel does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'."
    )
    with (
        pytest.raises(ConfigError, match="no method for cumsum_cuda_kernel that"),
        reproducible(TrainingConfig(deterministic=True), GPU),
    ):
        raise RuntimeError(message)
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        reproducible(TrainingConfig(deterministic=True), GPU),
    ):
        raise RuntimeError("CUDA out of memory")


def test_products_before_the_run_are_the_reason_where_they_cannot_repeat_their_bits():
    message = (
        "Deterministic behavior was enabled, but this operation is not deterministic because it "
        "uses CuBLAS. You must set an environment variable: CUBLAS_WORKSPACE_CONFIG=:4096:8"
    )
    with (
        pytest.raises(ConfigError, match=r"Start Python with CUBLAS_WORKSPACE_CONFIG=:4096:8 in"),
        reproducible(TrainingConfig(deterministic=True), GPU),
    ):
        raise RuntimeError(message)
