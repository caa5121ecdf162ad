"""The moving average of the weights: which steps are in it, with which fractions."""

import pytest
import torch

from regard.training.ema import ExponentialMovingAverage


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
