"""Dropout by PyTorch's rules, with masks from a pool."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from tests.small_runs import set_pool_size
from torch import nn
from torch.utils.checkpoint import checkpoint

from regard.errors import ConfigError
from regard.layers import dropout as pools
from regard.layers.dropout import (
    Dropout,
    RowRange,
    add_dropped,
    masks_by_row,
    set_dropout_generator,
)

POOL_SIZE = pools._POOL_SIZE  # other tests take smaller ones


@pytest.fixture(autouse=True)
def whole_pools(monkeypatch):
    set_pool_size(monkeypatch, pools, POOL_SIZE)


def seeded(dropout: nn.Module, x: torch.Tensor, seed: int = 7) -> torch.Tensor:
    torch.manual_seed(seed)
    return dropout(x)


def test_the_share_of_zeros_and_the_mean_are_as_asked():
    x = torch.ones(1000, 1000)
    out = seeded(Dropout(0.25), x)
    # One million elements: three standard deviations of the share are 0.0013.
    assert abs(float((out == 0).float().mean()) - 0.25) < 0.0014
    assert abs(float(out.mean()) - 1) < 0.002


def test_two_calls_get_masks_that_are_not_alike():
    first, second = (Dropout(0.5)(torch.ones(100_000)) == 0 for _ in range(2))
    assert abs(float((first == second).float().mean()) - 0.5) < 0.01


def test_the_seed_of_pytorch_decides_whatever_came_before():
    dropout, x = Dropout(0.1), torch.ones(64, 32)
    torch.manual_seed(7)
    first = [dropout(x), dropout(x)]
    dropout(torch.ones(3_000_000))
    torch.manual_seed(7)
    assert torch.equal(dropout(x), first[0])
    assert torch.equal(dropout(x), first[1])
    assert not torch.equal(seeded(dropout, x, 8), first[0])


def test_a_restored_state_of_the_generator_gives_the_same_mask():
    dropout, x = Dropout(0.5), torch.ones(64, 32)
    state = torch.get_rng_state()
    first = dropout(x)
    torch.manual_seed(99)
    dropout(x)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x), first)


def test_a_passed_generator_decides_and_pytorchs_own_is_left_alone():
    dropout, x = Dropout(0.5, generator=torch.Generator().manual_seed(3)), torch.ones(64, 32)
    state = torch.get_rng_state()
    first = dropout(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(dropout(x), first)
    dropout.generator.manual_seed(3)
    assert torch.equal(dropout(x), first)


def test_one_generator_can_serve_all_layers_of_a_model():
    model, x = nn.Sequential(Dropout(0.5), nn.Sequential(Dropout(0.2))), torch.ones(64, 32)
    generator = torch.Generator()
    set_dropout_generator(model, generator.manual_seed(1))
    first = model(x)
    generator.manual_seed(1)
    torch.manual_seed(5)
    assert torch.equal(model(x), first)


def test_a_generator_does_not_keep_the_pools_of_its_old_seeds():
    generator = torch.Generator()
    dropout = Dropout(0.5, generator=generator)
    masks = [dropout(torch.ones(64)) for _ in map(generator.manual_seed, range(3))]
    assert not torch.equal(masks[0], masks[1])


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 3_000_001])
def test_an_input_larger_than_the_pool_gets_a_mask_too(size):
    out = seeded(Dropout(0.5), torch.ones(size))
    assert abs(float((out == 0).float().mean()) - 0.5) < 0.002


def test_adding_to_a_residual_equals_dropping_then_adding():
    dropout, residual, x = Dropout(0.5), torch.randn(8, 8), torch.randn(8, 8)
    torch.manual_seed(5)
    fused = dropout.add(residual, x)
    torch.testing.assert_close(fused, residual + seeded(dropout, x, 5))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_nothing_is_dropped_in_evaluation(rate):
    dropout, x = Dropout(rate).eval(), torch.randn(4, 4)
    assert torch.equal(dropout(x), x)
    assert torch.equal(dropout.add(x, x), x + x)


def test_the_gradient_passes_through_the_mask_that_was_used():
    dropout, x = Dropout(0.5), torch.ones(50, 50, requires_grad=True)
    out = dropout(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


@pytest.mark.parametrize("rate", [1e-4, 0.001, 0.0019, 0.1, 0.3, 0.9, 0.9961, 0.9985, 0.999])
def test_rates_are_not_rounded(rate):
    x = torch.ones(1_000_000)
    out = seeded(Dropout(rate), x)
    deviation = (rate * (1 - rate) / len(x)) ** 0.5
    assert float((out == 0).double().mean()) == pytest.approx(rate, abs=4 * deviation)
    assert float(out.max()) == pytest.approx(1 / (1 - rate), rel=1e-6)


def test_a_rate_of_1_drops_all_with_a_gradient_of_zero():
    x = torch.ones(100, requires_grad=True)
    out = Dropout(1.0)(x)
    out.sum().backward()
    assert float(out.detach().abs().sum()) == float(x.grad.abs().sum()) == 0


@pytest.mark.parametrize("rate", [1e-12, 1 - 1e-12])
def test_the_most_extreme_rates_are_finite(rate):
    assert torch.isfinite(Dropout(rate)(torch.ones(100))).all()


@pytest.mark.parametrize("rate", [-1.0, 1.5])
def test_other_rates_are_refused_as_by_pytorch(rate):
    with pytest.raises(ValueError, match="has to be between 0 and 1, but got"):
        Dropout(rate)


def test_a_rate_that_is_changed_later_is_used():
    dropout, x = Dropout(0.5), torch.ones(1000)
    dropout.p = 0.0
    assert torch.equal(dropout(x), x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_type_stays(dtype):
    out = Dropout(0.5)(torch.ones(100, dtype=dtype))
    assert out.dtype == dtype
    assert set(out.tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_restores_the_masks(use_reentrant):
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(16, 16), Dropout(0.5)) for _ in range(3)])
    x, gradients = torch.randn(8, 16, requires_grad=True), []
    for is_plain in (True, False):
        torch.manual_seed(4)
        out = x
        for layer in layers:
            options = {"use_reentrant": use_reentrant}
            out = layer(out) if is_plain else checkpoint(layer, out, **options)
        gradients.append(torch.autograd.grad(out.sum(), x)[0] if not use_reentrant else None)
        if use_reentrant:
            x.grad = None
            out.sum().backward()
            gradients[-1] = x.grad
    assert torch.equal(*gradients)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_with_a_passed_generator_is_refused(use_reentrant):
    dropout = Dropout(0.5, generator=torch.Generator())
    x = torch.ones(16, requires_grad=True)
    out = checkpoint(lambda x: dropout(x).square(), x, use_reentrant=use_reentrant)
    with pytest.raises(ConfigError, match=r"restores PyTorch's default generator alone"):
        out.sum().backward()


@pytest.mark.slow
def test_a_compiled_graph_draws_masks_by_the_seed():
    dropout = Dropout(0.5)
    compiled = torch.compile(dropout.add, fullgraph=True, backend="eager")
    x = torch.ones(1000)
    first = compiled(x, x)
    assert 400 < int((first == 1).sum()) < 600
    torch.manual_seed(7)
    first = compiled(x, x)
    torch.manual_seed(7)
    assert torch.equal(compiled(x, x), first)


def test_a_mask_drawn_in_inference_mode_serves_in_training():
    dropout = Dropout(0.5, generator=torch.Generator())
    with torch.inference_mode():
        dropout(torch.ones(100))
    x = torch.ones(100, requires_grad=True)
    out = dropout(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_vmap_decides_whether_rows_share_a_mask():
    dropout, rows = Dropout(0.5), torch.ones(2, 1000)

    def gradients(randomness: str) -> torch.Tensor:
        of_row = torch.func.grad(lambda row: dropout(row).sum())
        return torch.func.vmap(of_row, randomness=randomness)(rows)

    same, different = gradients("same"), gradients("different")
    assert torch.equal(same[0], same[1])
    assert not torch.equal(different[0], different[1])
    assert set(different.flatten().tolist()) == {0.0, 2.0}


def test_tools_find_an_nn_dropout_and_its_hooks_run():
    dropout, outputs = Dropout(0.3), []
    assert isinstance(dropout, nn.Dropout)
    assert repr(dropout) == "Dropout(p=0.3, inplace=False)"
    dropout.register_forward_hook(lambda module, args, output: outputs.append(output))
    residual, x = torch.ones(100), torch.ones(100)
    out = add_dropped(residual, x, dropout)
    assert torch.equal(out, residual + outputs[0])


def test_any_module_can_take_its_place():
    x = torch.ones(4)
    assert torch.equal(add_dropped(x, x, nn.Identity()), x + x)


def test_a_copy_has_a_generator_of_its_own():
    dropout = Dropout(0.5, generator=torch.Generator().manual_seed(1))
    copied, x = copy.deepcopy(dropout), torch.ones(1000)
    assert torch.equal(dropout(x), copied(x))
    assert copied.generator is not dropout.generator


def test_no_rows_leave_masks_that_follow_from_rows():
    dropout, x = Dropout(0.5), torch.ones(2, 64)

    def masks(inner):
        torch.manual_seed(1)
        with masks_by_row(RowRange(1, 2, 4)), inner:
            return dropout(x)

    assert torch.equal(masks(masks_by_row(None)), masks(nullcontext()))
