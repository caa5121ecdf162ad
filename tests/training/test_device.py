"""What computes is chosen by name; an unknown or absent device is refused by name."""

from __future__ import annotations

import os

import pytest
import torch
from msgspec.structs import replace
from tests.setup.decide import MACHINE, decide

from regard.errors import ConfigError
from regard.runs.run import _present_device
from regard.setup import estimate
from regard.setup.config import RunConfig
from regard.setup.facts import inspect_machine
from regard.setup.request import Request
from regard.training import device
from regard.training.device import choose_device, on_one_thread, why_unusable
from regard.training.training_config import TrainingConfig

has_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.fixture
def has_gpus(monkeypatch):
    """Let PyTorch say that the machine has a number of GPUs."""

    def pretend(count: int, *, current: int = 0) -> None:
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
        monkeypatch.setattr(device, "why_unusable", lambda index: None)
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # what is set, a test leaves as it was
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")

    return pretend


@has_no_gpu
def test_auto_is_the_cpu_where_there_is_no_gpu():
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "count", "current", "expected"),
    [
        ("auto", 1, 0, "cuda:0"),
        ("auto", 0, 0, "cpu"),
        ("auto", 4, 2, "cuda:2"),  # the one of this process, where torchrun started several
        ("cuda", 4, 2, "cuda:2"),
        ("cuda:3", 4, 0, "cuda:3"),
        ("cpu", 4, 0, "cpu"),
    ],
)
def test_a_name_chooses_a_device(has_gpus, name, count, current, expected):
    has_gpus(count, current=current)
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("gpu", 1, 'device must be auto, cpu, cuda or cuda:N, not "gpu".'),
        (0, 1, 'device must be auto, cpu, cuda or cuda:N, not "0".'),
        (None, 1, 'device must be auto, cpu, cuda or cuda:N, not "None".'),
        ("cuda:x", 1, 'device must be auto, cpu, cuda or cuda:N, not "cuda:x".'),
        ("", 1, 'device must be auto, cpu, cuda or cuda:N, not "".'),
        ("cuda:3", 1, "cuda:3: this machine has 1 GPU, cuda:0."),
        ("cuda:4", 4, "cuda:4: this machine has 4 GPUs, cuda:0 to cuda:3."),
        ("mps", 1, "mps: not supported: some sums are taken in float64"),
        ("cuda", 0, "sees no GPU: is the driver installed"),
    ],
)
def test_an_unknown_or_absent_device_is_refused_by_name(has_gpus, name, count, message):
    has_gpus(count)
    with pytest.raises(ConfigError) as error:
        choose_device(name)
    assert message in str(error.value)


TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040). Please update it."


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(TOO_OLD), TOO_OLD),
        (RuntimeError("CUDA error: no kernel image\nmore"), "CUDA error: no kernel image."),
        (torch.cuda.DeferredCudaCallError("CUDA call failed"), "CUDA call failed."),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_is_left_out_or_refused(has_gpus, monkeypatch, error, reason):
    """The driver counts GPUs, also where it is too old for this PyTorch."""

    def fail(*_, **__):
        raise error

    has_gpus(1)
    monkeypatch.setattr(device, "why_unusable", why_unusable)
    monkeypatch.setattr(torch, "ones", fail)
    problem = f"PyTorch ({torch.__version__}) cannot compute on this GPU: {reason}"
    with pytest.warns(UserWarning) as caught:
        assert choose_device("auto") == torch.device("cpu")
    assert [str(warning.message) for warning in caught] == [f"the CPU computes: {problem}"]
    with pytest.raises(ConfigError) as refusal:
        choose_device("cuda:0")
    assert str(refusal.value) == f"cuda:0: {problem}  Take `device=cpu`."


def test_a_gpu_may_repeat_its_bits_from_its_first_product_on(has_gpus, monkeypatch):
    """PyTorch looks once, at the product that measures a machine before any setting is read."""
    has_gpus(1)
    assert choose_device("cpu") == torch.device("cpu")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    choose_device("auto")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    choose_device("auto")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_gpu_without_memory_is_no_reason_to_take_the_cpu(has_gpus, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    has_gpus(1)
    monkeypatch.setattr(device, "why_unusable", why_unusable)
    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        choose_device("auto")


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="this PyTorch has CUDA")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_pytorch_without_cuda_says_so(name):
    with pytest.raises(ConfigError, match=f"^{name}: this PyTorch .* has no CUDA") as error:
        choose_device(name)
    assert str(torch.__version__) in str(error.value)


def test_a_setting_that_names_no_device_is_refused():
    with pytest.raises(ValueError, match='device must be auto, cpu, cuda or cuda:N, not "tpu"'):
        TrainingConfig(device="tpu")


def test_the_device_of_the_machine_is_decided_with_the_other_settings():
    assert decide().training.device == "cpu"
    assert decide(machine=replace(MACHINE, device="cuda")).training.device == "cuda"


@has_no_gpu
def test_the_machine_is_measured_on_the_device_that_was_asked_for():
    machine = inspect_machine("cpu")
    assert machine.device == "cpu"
    assert machine.flops["float32"] > 0
    with pytest.raises(ConfigError, match=r"^cuda: "):
        inspect_machine("cuda")


def test_a_gpu_is_named_with_its_model(has_gpus):
    has_gpus(1)
    assert device.describe_device(torch.device("cuda", 0)) == "cuda:0, NVIDIA H100"
    assert device.describe_device(torch.device("cpu")) == "cpu"


def test_memory_is_that_of_the_gpu(monkeypatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20_000, 80_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2_000)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 5_000)
    assert estimate.available_memory_bytes(4, gpu) == 22_000  # not shared with neighbors
    assert estimate.peak_memory_bytes(gpu) == 5_000
    assert estimate.peak_memory_bytes() > 5_000  # of this process


def test_a_run_may_be_resumed_on_another_device():
    request = Request.parse(["training.device=cpu"])
    saved = RunConfig(training=TrainingConfig(device="cuda"))
    assert request.first_change(saved) is None
    assert request.device == "cpu"
    assert Request.parse([]).device is None


def test_the_device_that_a_run_had_is_not_asked_for_on_another_machine(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('settings = ["training.seed=3"]\n[training]\nseed = 3\ndevice = "cuda"\n')
    assert Request.parse([], file=path).bind_all_but_model(RunConfig()).training.device == "auto"
    path.write_text('settings = ["training.device=cuda"]\n[training]\ndevice = "cuda"\n')
    assert Request.parse([], file=path).bind_all_but_model(RunConfig()).training.device == "cuda"


@has_no_gpu
def test_a_resumed_run_says_that_its_gpu_is_not_here():
    events = []
    assert _present_device("cuda", None, events.append) == torch.device("cpu")
    assert events[0].text.startswith("The run began on cuda: ")
    assert events[0].text.endswith("It continues on cpu.")
    with pytest.raises(ConfigError, match=r"^cuda: "):
        _present_device("cpu", "cuda", events.append)


def test_one_thread_computes_until_the_end_also_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyError), on_one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
