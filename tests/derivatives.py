"""What the contracts of all families ask of their derivatives."""

from __future__ import annotations

import torch


def assert_every_parameter_has_a_gradient(model, loss_of):
    """Check that no parameter is left out of a loss."""
    model.train()
    loss_of(model).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def assert_second_derivatives(model, loss_of):
    """Check a Hessian-vector product against central differences of the gradient, in float64."""
    parameters = list(model.parameters())
    torch.manual_seed(1)
    direction = [torch.randn_like(parameter) for parameter in parameters]
    product = torch.autograd.grad(
        torch.autograd.grad(loss_of(model), parameters, create_graph=True), parameters, direction
    )
    step = 1e-7
    gradients = []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, along in zip(parameters, direction, strict=True):
                parameter.add_(along, alpha=sign * step)
        gradients.append(torch.autograd.grad(loss_of(model), parameters))
        with torch.no_grad():
            for parameter, along in zip(parameters, direction, strict=True):
                parameter.sub_(along, alpha=sign * step)
    for found, after, before in zip(product, *gradients, strict=True):
        # Central differences are good to about the square root of the step's rounding.
        scale = float(found.abs().max()) + 1.0
        torch.testing.assert_close(found, (after - before) / (2 * step), rtol=0, atol=1e-5 * scale)
