"""Checks of numbers that are given by name."""

import numpy as np
import pytest
import torch

from regard.errors import ConfigError
from regard.option_checks import require_number, require_whole


def test_a_tensor_is_checked_as_the_number_that_it_holds():
    require_number("tol", torch.tensor(0.5), "above 0", lambda tol: tol > 0)
    for value in (torch.tensor(-0.5), torch.tensor(torch.nan), torch.tensor(True)):
        with pytest.raises(ConfigError, match="tol must be above 0, not tensor"):
            require_number("tol", value, "above 0", lambda tol: tol > 0)


@pytest.mark.parametrize(
    "value", [None, "3", 3.0, True, -1, int, np.zeros(2), torch.zeros(2), torch.tensor(2.0), [1]]
)
def test_what_is_no_whole_number_is_refused_whatever_it_is(value):
    with pytest.raises(ConfigError, match="worst must be a whole number, 0 or more, not "):
        require_whole("worst", value, 0)
    for right in (0, 3, np.int64(3), torch.tensor(3)):
        require_whole("worst", right, 0)
