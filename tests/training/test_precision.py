"""The types that activations are computed in."""

from contextlib import contextmanager

import torch

from regard.training.precision import compute_dtype, has_fast_bf16


def test_a_precision_is_a_type_of_activations():
    assert compute_dtype("bf16") == torch.bfloat16
    assert compute_dtype("float32") == torch.float32


def test_a_gpu_is_asked_for_its_own_types(monkeypatch):
    """A machine may have a newer and an older one."""
    current = [torch.device("cuda", 0)]

    @contextmanager
    def within(device):
        current.append(device)
        yield
        current.pop()

    def is_supported(*, including_emulation):
        assert not including_emulation
        return current[-1] == torch.device("cuda", 1)

    monkeypatch.setattr(torch.cuda, "device", within)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert has_fast_bf16(torch.device("cuda", 1))
    assert not has_fast_bf16(torch.device("cuda", 0))
