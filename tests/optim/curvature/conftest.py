"""What the tests of curvature share."""

import pytest
import torch
from tests.optim.curvature.explicit_matrices import explicit, loss_of, regression

from regard.optim.curvature.operators import hessian_operator


@pytest.fixture
def classifier():
    """The Hessian of a small classifier over micro-batches, and its matrix."""
    model, batches = regression()
    parameters = list(model.parameters())
    operator = hessian_operator(lambda b: loss_of(model(b[0]), b), batches, parameters)
    together = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    return operator, explicit(loss_of(model(together[0]), together), parameters)
