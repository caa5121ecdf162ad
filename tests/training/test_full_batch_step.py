"""Training steps of methods that see all rows at once."""

import numpy as np
import pytest
import torch

from regard.errors import ConfigError
from regard.layers.linear import Linear
from regard.optim.minimize import METHODS
from regard.training.full_batch_step import FullBatchStep, MicroBatches, build_full_batch
from regard.training.train_step import Loss
from regard.training.training_config import OptimizerConfig

INPUTS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))


class Rows:
    """Forty rows in batches of eight."""

    def __init__(self):
        self.targets = range(len(INPUTS))

    def in_sequence(self):
        return np.array_split(np.arange(len(INPUTS)), 5)

    def order(self, epoch):
        return self.in_sequence()

    def batch(self, rows):
        return INPUTS[rows]


class Squares:
    """The mean of squares of outputs less 1."""

    def __call__(self, model, batch):
        return self.of_outputs(self.outputs(model, batch), batch)

    def outputs(self, model, batch):
        return model(batch)

    def of_outputs(self, outputs, batch):
        loss = ((outputs - 1) ** 2).mean()
        return Loss(loss=loss, nll=2 * loss.detach(), num_tokens=len(batch))


def build(name, loss_function=None, **settings):
    torch.manual_seed(0)
    model = torch.nn.Sequential(Linear(4, 4), Linear(4, 4))
    rate = 0.05 if name == "adam-then-cg" else None
    config = OptimizerConfig(name=name, learning_rate=rate, warmup=0.0, **settings)
    stepper, batches = build_full_batch(
        model, loss_function or Squares(), config, Rows(), lambda number: None
    )
    return model, stepper, batches


@pytest.mark.parametrize("name", METHODS)
def test_steps_lower_the_loss_of_all_rows(name):
    model, stepper, batches = build(name)
    (rows,) = batches.order(0)
    before = Squares()(model, INPUTS).loss.item()
    for _ in range(20):
        output = stepper.step(batches.batch(rows), 0.0)
    after = Squares()(model, INPUTS).loss.item()
    assert after < 0.01 * before
    assert float(output.loss.loss) == pytest.approx(after, abs=1e-6)
    assert float(output.loss.nll) == pytest.approx(2 * after, abs=1e-6)
    norm = float(torch.linalg.vector_norm(output.gradient_norms))
    assert output.gradient_norm == pytest.approx(norm)


def test_a_step_counts_the_passes_it_took():
    _, stepper, _ = build("cg", memory=0)
    stepper.step(None, 0.0)
    counts = stepper.optimizer.counts
    assert stepper.num_passes == counts.gradients + counts.values > 1


@pytest.mark.parametrize(("fraction", "part"), [(0.2, 0.2), (0.3, 0.4), (0.01, 0.2)])
def test_products_over_a_part_of_the_data_count_as_that_part(fraction, part):
    _, stepper, _ = build("newton-cg", curvature_fraction=fraction)
    stepper.step(None, 0.0)
    counts = stepper.optimizer.counts
    assert counts.products > 0
    assert stepper.num_passes == counts.gradients + counts.values + part * counts.products


def test_newton_cg_is_damped_and_multiplies_over_a_quarter_of_the_data():
    _, stepper, _ = build("newton-cg")
    stepper.step(None, 0.0)
    assert stepper._whole.curvature_fraction == 0.25
    assert stepper.optimizer.last.damping == pytest.approx(1 / 3)  # from 1, after a good step


@pytest.mark.slow
def test_a_run_ends_where_no_step_lowers_the_loss():
    _, stepper, _ = build("lbfgs")
    for _ in range(300):
        stepper.step(None, 0.0)
        if stepper.stop_reason:
            break
    assert stepper.stop_reason


def test_conjugate_gradient_takes_over_from_adam_when_epochs_gain_little():
    _, stepper, batches = build("adam-then-cg")
    assert len(batches.order(0)) == 5
    epoch = 0
    while not stepper.is_second:
        for rows in batches.order(epoch):
            stepper.step(batches.batch(rows), 0.0)
        epoch += 1
        assert epoch < 200
    assert len(batches.order(epoch)) == 1
    assert stepper.plan_stride == 10
    output = stepper.step(batches.batch(batches.order(epoch)[0]), 0.0)
    assert stepper.num_passes > 1
    assert float(output.loss.loss) < 0.05


def test_conjugate_gradient_takes_over_from_adam_late_in_a_run_anyway():
    _, stepper, batches = build("adam-then-cg")
    for rows in batches.order(0):
        stepper.step(batches.batch(rows), 0.85)
    assert stepper.is_second


def test_gauss_newton_needs_outputs_apart_from_the_loss():
    def whole(model, batch):
        return Squares()(model, batch)

    message = "Take the Hessian: `optimizer.curvature=hessian`"
    with pytest.raises(ConfigError, match=message):
        build("newton-cg", whole)
    _, stepper, _ = build("newton-cg", whole, curvature="hessian")
    assert np.isfinite(float(stepper.step(None, 0.0).loss.loss))


def test_an_optimizer_that_takes_no_steps_on_all_rows_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer\.name=sgd: takes no steps on all rows"):
        FullBatchStep(
            Linear(4, 4), Squares(), OptimizerConfig(name="sgd"), MicroBatches(Rows()), print
        )
