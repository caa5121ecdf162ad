"""Oscillations of a loss are distinguished from noise, whatever the unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.training.loss_oscillation import find_oscillation

STEPS = np.arange(256)


def noise(seed, size=256):
    return np.random.default_rng(seed).normal(size=size)


def is_sustained(series):
    oscillation = find_oscillation(list(series))
    return oscillation is not None and oscillation.is_sustained


def correlated(seed, factor):
    series, steps = np.zeros(256), noise(seed)
    for step in range(1, 256):
        series[step] = factor * series[step - 1] + steps[step]
    return 3 + 0.3 * series


def shuffled_epochs(seed, num_batches):
    rng = np.random.default_rng(seed)
    means = rng.normal(size=num_batches)
    epochs = [rng.permutation(means) for _ in range(256 // num_batches + 1)]
    return (5 + np.concatenate(epochs))[:256]


@pytest.mark.parametrize(
    "series",
    [
        3 + 0.5 * (-1.0) ** STEPS,
        3 + 0.6 * np.sin(0.5 * STEPS),
        3 + 0.6 * np.sin(np.cumsum(0.5 + 0.05 * noise(1))),
        3 - 0.002 * STEPS + 0.4 * np.exp(STEPS / 256) * np.cos(0.8 * STEPS),
    ],
    ids=["flips", "wave", "wandering", "growing"],
)
def test_a_loss_that_oscillates_under_noise_is_recognised(series):
    assert all(is_sustained(series + 0.2 * noise(seed)) for seed in range(20))


@pytest.mark.parametrize(
    "healthy",
    [
        lambda seed: 3 + 0.5 * noise(seed),
        lambda seed: np.exp(noise(seed)),
        lambda seed: 2 + 5 * np.exp(-STEPS / 64) + 0.2 * noise(seed),
        lambda seed: 2 + 0.1 * noise(seed) + 5 * (STEPS == 100),
        lambda seed: 3 + np.exp(-STEPS / 85) * np.cos(0.8 * STEPS) + 0.02 * noise(seed),
        lambda seed: correlated(seed, 0.8),
        lambda seed: correlated(seed, 1.0),
        lambda seed: correlated(seed, -0.3),
        lambda seed: shuffled_epochs(seed, 2),
        lambda seed: shuffled_epochs(seed, 5),
    ],
    ids=["white", "skewed", "falling", "spike", "damped", "slow", "walk", "alternating", "2", "5"],
)
def test_noise_progress_spikes_and_short_epochs_do_not_count_as_an_oscillation(healthy):
    assert not any(is_sustained(healthy(seed)) for seed in range(40))


def test_period_amplitude_and_level_of_a_wave_are_measured():
    oscillation = find_oscillation(list(3 + 0.6 * np.sin(2 * np.pi * STEPS / 8)))
    assert oscillation is not None
    assert oscillation.period == pytest.approx(8, rel=0.01)
    assert oscillation.amplitude == pytest.approx(0.6 / 2**0.5, rel=0.01)
    assert oscillation.level == pytest.approx(3, rel=0.01)
    assert oscillation.fraction == pytest.approx(1, abs=0.01)


@given(unit=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
def test_the_unit_of_the_loss_does_not_matter(unit, seed):
    series = 3 + 0.5 * (-1.0) ** STEPS + 0.5 * noise(seed)
    first, second = find_oscillation(list(series)), find_oscillation(list(unit * series))
    assert first is not None
    assert second is not None
    assert second.fraction == pytest.approx(first.fraction, rel=1e-6)
    assert second.is_sustained == first.is_sustained


def test_an_oscillation_that_is_small_relative_to_the_level_is_ignored():
    assert not is_sustained(3 + 0.08 * (-1.0) ** STEPS)
    assert is_sustained(3 + 0.2 * (-1.0) ** STEPS)


@pytest.mark.parametrize("series", [[1.0] * 256, [1.0, 2.0] * 63, []])
def test_series_that_are_constant_or_short_have_no_oscillation(series):
    assert find_oscillation(series) is None
