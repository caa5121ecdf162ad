"""Train an `nn.Module` with Newton-CG: no learning rate, and few steps.

    python examples/newton_cg.py

`FullBatch` makes one deterministic function of a data set; with `outputs` separate from the loss it
offers products with the Gauss-Newton matrix, which Newton-CG solves its linear system with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.optim import FullBatch, NewtonCG

Batch = tuple[Tensor, Tensor]


def spirals(num_points: int, generator: torch.Generator) -> Batch:
    """Draw points on two spirals, ``[points, 2]``, and which spiral each is on, ``[points]``."""
    labels = torch.arange(num_points) % 2
    angle = 3 * math.pi * torch.rand(num_points, generator=generator).sqrt()
    direction = torch.stack([angle.cos(), angle.sin()], dim=1)
    points = direction * angle[:, None] * (1 - 2 * labels)[:, None] / 5
    return points + 0.02 * torch.randn(num_points, 2, generator=generator), labels


def main(num_steps: int = 40) -> tuple[float, float]:
    """Train a small network; return the loss before and after."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2)
    ).double()
    points, labels = spirals(512, torch.Generator().manual_seed(1))
    batches = list(zip(points.double().split(128), labels.split(128), strict=True))

    def outputs(batch: Batch) -> Tensor:
        return model(batch[0])  # [batch, 2]

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(logits, batch[1])

    objective = FullBatch(batches, loss, outputs=outputs, model=model)
    optimizer = NewtonCG(model.parameters(), region="levenberg-marquardt")
    first = objective.value()
    for step in range(1, num_steps + 1):
        optimizer.step(objective)
        if step % 10 == 0:
            report = optimizer.last
            print(f"step {step}   loss {objective.value():.2e}   step size {report.step_size:.2f}")
    with torch.no_grad():
        accuracy = (model(points.double()).argmax(1) == labels).double().mean()
    print(f"accuracy {100 * accuracy:.1f} %")
    return first, objective.value()


if __name__ == "__main__":
    main()
