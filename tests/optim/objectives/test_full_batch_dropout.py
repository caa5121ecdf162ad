"""The whole data set as one function of a model with dropout: off, or frozen within a step."""

import pytest
import torch
from tests.optim.objectives.test_full_batch import (
    ROWS,
    bound,
    exact_loss,
    flat,
    like,
    network,
    whole,
)
from torch import nn

from regard.optim import ConjugateGradient, FullBatch, NewtonCG


def test_dropout_is_off_while_evaluating_and_the_mode_is_put_back():
    model = network(dropout=0.5)
    model.train()
    objective = bound(model)
    assert objective.value() == objective.value()
    assert model.training
    expected = exact_loss(model.eval()).item()
    assert objective.value() == pytest.approx(expected, abs=1e-12)
    assert not model.training


def test_the_mode_of_each_part_is_put_back_also_after_an_error():
    model = network(dropout=0.5)
    model.train()
    model[2].eval()
    objective = FullBatch([ROWS], lambda rows: model[9](rows), model=model)
    with pytest.raises(IndexError, match="index 9 is out of range"):
        objective.value()
    assert [part.training for part in model.modules()] == [True, True, True, False, True]


def test_frozen_dropout_is_the_same_within_a_step_and_other_in_the_next():
    model = network(dropout=0.5)
    objective = bound(model, dropout="frozen")
    seen = []
    for _ in range(3):
        assert objective.begin_step()
        first = objective.value()
        assert objective.value() == first
        assert objective.gradient() == first
        seen.append(first)
    assert len(set(seen)) == 3
    model.eval()
    assert objective.value() != seen[-1]


@pytest.mark.parametrize("dropout", ["off", "frozen"])
def test_batch_norm_takes_its_statistics_and_keeps_them(dropout):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
    model(ROWS)  # estimates them
    before = model[1].running_mean.clone()
    objective = FullBatch(
        ROWS.split(5), lambda rows: (model(rows) - 1).square().mean(), model=model, dropout=dropout
    )
    optimizer = ConjugateGradient(model.parameters())
    for _ in range(3):
        value = optimizer.step(objective)
    assert torch.equal(model[1].running_mean, before)
    assert model[1].training
    assert value == pytest.approx((model.eval()(ROWS) - 1).square().mean().item(), rel=1e-12)


def test_frozen_dropout_drops_other_entries_in_every_micro_batch():
    layer, masks = nn.Dropout(0.5), []

    def loss(rows):
        masks.append(layer(rows))
        return rows.mean()

    objective = FullBatch([torch.ones(8, 8)] * 2, loss, model=layer, dropout="frozen")
    objective.value()
    assert not torch.equal(masks[0], masks[1])


def test_frozen_dropout_leaves_the_generator_where_it_was():
    model = network(dropout=0.5)
    objective = bound(model, dropout="frozen")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    objective.begin_step()
    objective.gradient()
    assert torch.equal(torch.rand(3), expected)


def test_the_caller_may_decide_about_the_masks():
    model, seeds = network(dropout=0.5), []
    objective = bound(model, 12, dropout="frozen", seed_dropout=seeds.append)
    objective.begin_step()
    objective.value()
    objective.gradient()
    assert len(seeds) == 4
    assert seeds[:2] == seeds[2:]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("product", ["hessian", "gauss_newton"])
def test_products_use_the_frozen_masks_of_the_value(product):
    model = network(dropout=0.5)
    objective = bound(model, dropout="frozen")
    objective.begin_step()
    vector = like(model)
    first = flat(getattr(objective, product)(vector))
    assert torch.equal(flat(getattr(objective, product)(vector)), first)
    objective.begin_step()
    assert not torch.equal(flat(getattr(objective, product)(vector)), first)


@pytest.mark.slow
@pytest.mark.parametrize("build", [ConjugateGradient, NewtonCG])
def test_every_step_lowers_the_value_under_its_own_masks(build):
    model = network(dropout=0.3)
    objective, optimizer = whole(model, model=model, dropout="frozen"), build(model.parameters())
    for _ in range(6):
        before = flat(model.parameters()).detach()
        value = optimizer.step(objective)
        nn.utils.vector_to_parameters(before, model.parameters())
        assert objective.value() > value
    assert optimizer.last.failure == ""
