"""One optimizer step, the moving average, the signals."""

import os
import signal

import pytest
import torch

from regard.errors import ConfigError
from regard.layers.linear import Linear
from regard.layers.lora import add_low_rank
from regard.training.ema import ExponentialMovingAverage
from regard.training.precision import compute_dtype
from regard.training.signals import Stopped, StopRequest
from regard.training.train_step import Loss, MiniBatchStep, build_optimizers
from regard.training.training_config import OptimizerConfig, TrainingConfig


def quadratic(model, batch):
    loss = ((model(batch) - 1) ** 2).mean()
    return Loss(loss=loss, nll=loss.detach(), num_tokens=len(batch))


def build(name="adamw", **settings):
    torch.manual_seed(0)
    model = torch.nn.Sequential(Linear(4, 4), Linear(4, 4))
    config = OptimizerConfig(name=name, learning_rate=0.05, warmup=0.0, **settings)
    return model, MiniBatchStep(model, quadratic, config)


BATCH = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_steps_lower_the_loss(name):
    _, stepper = build(name)
    losses = [float(stepper.step(BATCH, 0.0).loss.nll) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_every_parameter_belongs_to_one_optimizer(name):
    model, stepper = build(name)
    owned = [
        id(parameter)
        for optimizer in stepper.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(owned) == sorted(id(parameter) for parameter in model.parameters())


def test_muon_without_a_matrix_leaves_all_to_adamw():
    """Adapters of rank 1 are vectors."""
    model = torch.nn.Sequential(Linear(4, 4)).requires_grad_(False)
    add_low_rank(model, rank=1, alpha=1.0)
    stepper = MiniBatchStep(model, quadratic, OptimizerConfig(name="muon", learning_rate=0.05))
    losses = [float(stepper.step(BATCH, 0.5).loss.nll) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert sum(len(group["params"]) for group in stepper.optimizers[0].param_groups) == 0


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_a_restored_state_continues_to_the_same_bits(name):
    model, stepper = build(name)
    for _ in range(3):
        stepper.step(BATCH, 0.1)
    copy, second = build(name)
    copy.load_state_dict(model.state_dict())
    second.load({key: value.clone() for key, value in stepper.state().items()})
    for _ in range(3):
        stepper.step(BATCH, 0.2)
        second.step(BATCH, 0.2)
    for first, again in zip(model.parameters(), copy.parameters(), strict=True):
        assert torch.equal(first, again)


def test_a_gradient_that_is_not_finite_changes_no_weight():
    model, stepper = build()
    before = [parameter.clone() for parameter in model.parameters()]
    norm = stepper.step(BATCH * float("inf"), 0.0).gradient_norm
    assert not norm < float("inf")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_gradient_is_clipped_to_the_norm_asked_for():
    model, stepper = build(clip=1e-3)
    norm = stepper.step(BATCH, 0.0).gradient_norm
    clipped = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    assert norm > 0.1
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


def fill(model, value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 5, 7])
def test_an_average_consists_of_the_weights_after_steps_alone(num_steps):
    model = torch.nn.Linear(2, 2)
    fill(model, 1e6)  # the initial weights
    average = ExponentialMovingAverage(model, 0.99)
    fill(model, 1.0)
    for step in range(1, num_steps + 1):
        average.update(step)
    assert all((weights == 1.0).all() for weights in average.weights().values())


def test_an_average_is_a_mean_of_the_weights_with_these_fractions():
    model = torch.nn.Linear(2, 2)
    average = ExponentialMovingAverage(model, 0.99)
    for step in range(1, 9):
        fill(model, float(step == 4))
        average.update(step)
    # The steps 4 and 8 are averaged. At 8 the decay of a step is 8 / 18, at 4 it is 4 / 14.
    old, new = (8 / 18) ** 4 * (1 - (4 / 14) ** 4), 1 - (8 / 18) ** 4
    assert float(average.weights()["bias"][0].detach()) == pytest.approx(old / (old + new))


def test_the_last_steps_of_a_run_are_in_the_average_and_its_state_stays():
    model = torch.nn.Linear(2, 2)
    average = ExponentialMovingAverage(model, 0.9)
    average.tensors["weight"].fill_(0.0)
    fill(model, 1.0)
    average.update(100_003)
    assert float(average.weights()["weight"][0, 0]) == pytest.approx(1 - 0.9**3)
    assert float(average.tensors["weight"][0, 0]) == 0.0


def test_an_average_spans_more_steps_the_longer_the_run():
    model = torch.nn.Linear(2, 2)
    average = ExponentialMovingAverage(model, 0.99)
    fill(model, 1.0)
    average.tensors["weight"].fill_(0.0)
    average.update(100_000)
    # Four steps at once: 1 - 0.99^4.
    assert float(average.tensors["weight"][0, 0]) == pytest.approx(1 - 0.99**4, rel=1e-4)


def test_the_first_signal_is_a_request_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_of_several_processes_a_signal_while_one_ends_changes_nothing():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Stopped), StopRequest(catches_all=True) as stop:
            raise Stopped(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_has_the_exit_code_of_its_signal(signum, code):
    assert Stopped(signum).exit_code == code


def test_a_precision_is_a_type_of_activations():
    assert compute_dtype("bf16") == torch.bfloat16
    assert compute_dtype("float32") == torch.float32


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (TrainingConfig, {"epochs": 0}, "epochs must be 1 or more, not 0"),
        (TrainingConfig, {"minutes": -1.0}, "minutes must be above 0, not -1.0"),
        (TrainingConfig, {"average": 1.0}, "average must be at least 0 and below 1, not 1.0"),
        (OptimizerConfig, {"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        (OptimizerConfig, {"warmup": 1.0}, "warmup must be at least 0 and below 1, not 1.0"),
        (OptimizerConfig, {"clip": 0.0}, "clip must be above 0, not 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(kind, settings, message):
    with pytest.raises(ValueError) as raised:
        kind(**settings)
    assert str(raised.value) == message


def test_an_optimizer_that_takes_no_steps_on_batches_is_refused():
    config = OptimizerConfig(name="cg", learning_rate=0.1)
    with pytest.raises(ConfigError, match=r"optimizer\.name=cg: not built here"):
        build_optimizers(Linear(3, 3), config, torch.float32)
