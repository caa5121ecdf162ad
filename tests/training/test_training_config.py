"""Settings of training and of its optimizer: their ranges."""

import pytest

from regard.training.training_config import OptimizerConfig, TrainingConfig


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
