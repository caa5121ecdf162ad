"""Checks of numbers that are given by name."""

import pytest
import torch

from regard.errors import ConfigError
from regard.option_checks import require_number


def test_a_tensor_is_checked_as_the_number_that_it_holds():
    require_number("tol", torch.tensor(0.5), "above 0", lambda tol: tol > 0)
    for value in (torch.tensor(-0.5), torch.tensor(torch.nan), torch.tensor(True)):
        with pytest.raises(ConfigError, match="tol must be above 0, not tensor"):
            require_number("tol", value, "above 0", lambda tol: tol > 0)
