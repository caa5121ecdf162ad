"""Small matrices and Hessians that are known entry by entry."""

import torch
import torch.nn.functional as F
from torch import nn


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def symmetric(values, seed=1):
    """Draw a matrix of given eigenvalues."""
    values = torch.as_tensor(values, dtype=torch.float64)
    size = len(values)
    noise = torch.randn(size, size, generator=generator(seed), dtype=torch.float64)
    basis, _ = torch.linalg.qr(noise)
    return basis @ torch.diag(values) @ basis.mT


def dense(operator):
    """Build the matrix of an operator, column by column."""
    return torch.stack(
        [operator.matvec(unit) for unit in torch.eye(operator.size, dtype=torch.float64)]
    )


def regression(rows=(5, 2, 4)):
    """Make a small classifier with micro-batches of different size."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    draw = generator(2)
    batches = [
        (
            torch.randn(count, 3, generator=draw, dtype=torch.float64),
            torch.randint(3, (count,), generator=draw),
        )
        for count in rows
    ]
    return model, batches


def loss_of(outputs, batch):
    return F.cross_entropy(outputs, batch[1])


def explicit(loss, parameters):
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    rows = [
        torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True)
        for slope in gradient
        for entry in slope.reshape(-1)
    ]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])
