"""The losses of the rows of a batch are those of its loss, and their derivatives its gradients.

Of every task with rows, and of every family: forward-mode differentiation goes through each layer.
"""

from __future__ import annotations

import pytest
import torch
from tests.contracts import test_encoders, test_families
from tests.contracts.test_waits_of_losses import (
    IDS,
    LABELS,
    ROWS,
    TASKS,
    language_modeling,
    translation,
)
from torch.autograd import forward_ad
from torch.func import functional_call

from regard.data.labeled_text import LabeledTextBatch
from regard.explain.influence.training_objective import RowLosses
from regard.models import DECODERS, Classifier
from regard.tasks.classification.loss import ClassificationLoss
from regard.training.train_step import RowwiseLoss

ROWWISE = [name for name in TASKS if name != "forecasting"]
WRITERS = [*test_families.ALONE[1:], test_families.COPYING, *test_families.LEARNING_PAIRS]
OTHER_DECODERS = [name for name in DECODERS if name != "gpt"]
OTHER_ENCODERS = ["longformer", "transformer"]


def classification(family):
    model = Classifier(test_encoders.build(family), 3)
    return ClassificationLoss(0.1), model, LabeledTextBatch(ids=IDS, labels=LABELS, rows=ROWS)


def exact(case):
    loss, model, batch = case
    return loss, model.double().eval(), batch


@pytest.mark.parametrize("task", ROWWISE)
def test_the_losses_of_rows_sum_to_that_of_the_batch(task):
    loss, model, batch = exact(TASKS[task]())
    assert isinstance(loss, RowwiseLoss)
    rows, num_tokens = loss.row_losses(model, batch)
    whole = loss(model, batch)
    assert num_tokens == whole.num_tokens
    assert rows.shape == (3,)
    assert rows.sum().item() == pytest.approx(whole.loss.item() * num_tokens, rel=1e-6)


@pytest.mark.parametrize("task", ROWWISE)
def test_the_loss_without_smoothing_is_the_cross_entropy_of_the_logits(task):
    loss, model, batch = exact(TASKS[task]())
    logits = loss.logits(model, batch)
    of_labels = logits.logsumexp(-1).mean() - loss(model, batch).nll.item()
    if task == "question answering":  # starts and ends of each window
        labels = torch.stack([batch.starts, batch.ends], 1).flatten()
    else:
        labels = batch.labels[batch.labels != getattr(loss, "ignore_index", -1)]
    assert logits.shape[0] == len(labels)
    mean = logits.gather(1, labels[:, None]).mean()
    assert of_labels.item() == pytest.approx(mean.item(), rel=1e-6)


def derivatives(loss, model, batch, tangents):
    """Return the derivatives of the losses of rows along a direction, in forward mode."""
    with torch.no_grad(), forward_ad.dual_level():
        weights = {
            f"model.{name}": forward_ad.make_dual(weight.detach(), tangents[name])
            for name, weight in model.named_parameters()
            if name in tangents
        }
        losses, _ = functional_call(RowLosses(model, loss), weights, (batch,))
        return forward_ad.unpack_dual(losses).tangent


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(TASKS[name], id=name) for name in ROWWISE),
        *(pytest.param(lambda name=name: translation(name), id=name) for name in WRITERS),
        *(
            pytest.param(lambda name=name: language_modeling(name), id=name)
            for name in OTHER_DECODERS
        ),
        *(
            pytest.param(lambda name=name: classification(name), id=f"texts by {name}")
            for name in OTHER_ENCODERS
        ),
    ],
)
def test_derivatives_of_rows_are_products_of_their_gradients(case):
    loss, model, batch = exact(case())
    generator = torch.Generator().manual_seed(1)
    tangents = {
        name: torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    losses, _ = loss.row_losses(model, batch)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    expected = []
    for row in losses:
        gradients = torch.autograd.grad(
            row, parameters.values(), retain_graph=True, materialize_grads=True, allow_unused=True
        )
        products = (g * tangents[name] for g, name in zip(gradients, parameters, strict=True))
        expected.append(sum(float(product.sum()) for product in products))
    actual = derivatives(loss, model, batch, tangents)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))
