"""The curvature of a Transformer: largest eigenvalues, trace, and spectral density of the Hessian.

    python examples/curvature.py

The Hessian is never built. An operator multiplies it with vectors, which needs second derivatives
of attention; those exist here for every pattern. Compare Ghorbani, Krishnan & Xiao 2019, "An
investigation into neural net optimization via Hessian eigenvalue density".
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.models import AttentionConfig, GptConfig, make_model
from regard.optim import hessian_operator, hutchinson_trace, spectral_density, top_eigenvalues


def main() -> tuple[Tensor, float]:
    """Return the three largest eigenvalues, ``[3]``, and the estimated trace."""
    torch.manual_seed(1)
    config = GptConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=32, dropout=0.0)
    model = make_model(config, 20, AttentionConfig(pattern="local:8"))
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randint(20, (4, 33), generator=generator) for _ in range(2)]

    def loss(batch: Tensor) -> Tensor:
        logits = model(batch[:, :-1])  # [batch, length, vocabulary]
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    hessian = hessian_operator(loss, batches, model.parameters(), model=model)
    print(f"{hessian.size:,} parameters")
    top = top_eigenvalues(hessian, hessian.size, 3, generator=generator)
    print("largest eigenvalues:", ", ".join(f"{value:.3f}" for value in top.values.tolist()))
    trace = hutchinson_trace(hessian, hessian.size, 20, generator=generator)
    print(f"trace: {trace.value:.2f} +- {trace.standard_error:.2f}")

    spectrum = spectral_density(
        hessian, hessian.size, generator=generator, num_probes=2, num_iterations=30
    )
    # Most eigenvalues are nearly 0: the sign of a node there says nothing of theirs.
    least = 0.01 * spectrum.nodes.abs().max()
    for words, is_there in (
        ("below -1 %", spectrum.nodes < -least),
        ("within 1 %", spectrum.nodes.abs() <= least),
    ):
        fraction = spectrum.weights[is_there].sum()
        print(f"fraction of eigenvalues {words} of the largest: {fraction:.2f}")
    return top.values, float(trace.value)


if __name__ == "__main__":
    main()
