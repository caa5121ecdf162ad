"""The inner products of a step are the same one by one and in one pass."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from regard.optim import one_pass
from regard.optim.flat_parameters import inner_product
from regard.optim.one_pass import in_one_pass
from regard.optim.step_products import StepProducts

NAMES = (
    *("slope", "old_slope", "d_d", "d_y", "y_y"),
    *("y_new", "new_square", "old_square", "norm"),
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def flat(*, waits):
    """Return what stands for the parameters, on a CPU or as on a device."""
    return SimpleNamespace(waits=waits, product=inner_product, largest=lambda x: x.abs().max())


def vectors(size, dtype):
    generator = torch.Generator().manual_seed(size)
    return [torch.randn(size, generator=generator).to(dtype) for _ in range(3)]


@pytest.fixture
def compiling(monkeypatch):
    """Compile on a CPU, for vectors of any length."""
    monkeypatch.setattr(one_pass, "pays", lambda vector: True)
    monkeypatch.setattr(one_pass, "_failures", set())
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    one_pass._compiled.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_one_pass_computes_what_one_product_after_another_is(compiling, dtype):
    for size in (5000, 777):
        old, new, direction = vectors(size, dtype)
        at_once = StepProducts(flat(waits=True), old, new, direction)
        assert set(at_once._computed) == set(NAMES)
        one_by_one = StepProducts(flat(waits=False), old, new, direction)
        assert one_by_one._computed == {}
        expected = {name: float(one_by_one[name]) for name in NAMES}
        # Relative to the terms, as a sum of both signs has no other scale: the rounding of a
        # product, and of a change, which in one pass is that of float32.
        error = 2 * size * (1e-2 if dtype == torch.bfloat16 else 10 * torch.finfo(dtype).eps)
        for name, value in expected.items():
            assert float(at_once[name]) == pytest.approx(value, abs=error), name
        assert torch.equal(at_once["norm"], new.abs().max())


def test_the_change_may_take_the_place_of_the_old_gradient():
    old, new, direction = vectors(50, torch.float64)
    change = new - old
    products = StepProducts(flat(waits=False), old, new, direction, out=old)
    assert float(products["d_y"]) == pytest.approx(float(direction @ change))
    assert products.change is old
    assert torch.equal(old, change)
    assert float(products["y_new"]) == pytest.approx(float(change @ new))


def test_a_number_that_is_not_finite_is_the_norm(compiling):
    old, new, direction = vectors(50, torch.float32)
    new[3] = torch.nan
    assert StepProducts(flat(waits=True), old, new, direction)["norm"].isnan()


def test_short_vectors_and_those_of_a_cpu_are_computed_by_operators():
    assert in_one_pass(torch.sum, torch.zeros(1 << 21)) is None
    assert one_pass.pays(SimpleNamespace(is_cuda=True, numel=lambda: 1 << 20))
    assert not one_pass.pays(SimpleNamespace(is_cuda=True, numel=lambda: (1 << 20) - 1))


def test_sums_by_which_processes_decide_alike_and_those_that_repeat_are_not_compiled(monkeypatch):
    """The compiler takes the fastest order of a sum, which may be another in each process."""
    vector = SimpleNamespace(is_cuda=True, numel=lambda: 1 << 20)
    torch.use_deterministic_algorithms(True)
    try:
        assert not one_pass.pays(vector)
    finally:
        torch.use_deterministic_algorithms(False)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for size, is_compiled in ((1, True), (2, False)):
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda size=size: size)
        assert one_pass.pays(vector) == is_compiled


@pytest.mark.parametrize("fails_when_called", [True, False])
def test_what_cannot_be_compiled_is_computed_by_operators_and_that_is_said_once(
    compiling, monkeypatch, fails_when_called
):
    """As without a C++ compiler, or on a version of Python that PyTorch's does not support."""

    def fail(*_, **__):
        error = TorchDynamoException if fails_when_called else RuntimeError
        raise error("no compiler\nand more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail if fails_when_called else fail())
    one_pass._compiled.cache_clear()
    old, new, direction = vectors(50, torch.float32)
    with pytest.warns(UserWarning, match=r"one by one .* slower: .*: no compiler\)\.") as caught:
        products = [StepProducts(flat(waits=True), old, new, direction) for _ in range(2)]
    assert len(caught) == 1
    assert products[1]._computed == {}
    assert float(products[1]["slope"]) == pytest.approx(float(direction @ new), rel=1e-5)
