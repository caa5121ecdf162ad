"""Vectors of the roles of tokens and of their neighbours.

A role is a small number, such as whether the word of a token occurs in a question. The vector of a
token depends on its role and those of the tokens around it: a convolution over one-hot vectors.
Cost: O(length dim roles width).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.layers.initialization import fill_normal
from regard.layers.layer import Description, Layer


class RoleEmbedding(Layer):
    """``sum over offsets o of weight[:, role[t + o], o]``.

    Args:
        dim: Size of the vectors.
        num_roles: Number of roles.
        width: Tokens whose roles a vector depends on, its own in the middle; odd.
    """

    is_embedding = True

    def __init__(self, dim: int, num_roles: int, width: int) -> None:
        super().__init__()
        kernel = torch.empty(dim, num_roles, width)
        # The sum of the columns is about as large as a normalised embedding.
        self.weight = nn.Parameter(fill_normal(kernel, width**-0.5))

    def forward(self, roles: Tensor) -> Tensor:
        """Embed roles, ``[batch, length]``, -1 for none, as ``[batch, length, dim]``."""
        numbers = torch.arange(self.weight.shape[1], device=roles.device)
        return self.mix(roles[:, None] == numbers[:, None])

    def mix(self, probabilities: Tensor) -> Tensor:
        """Embed mixtures of roles, ``[batch, num_roles, length]``, as ``[batch, length, dim]``."""
        probabilities = probabilities.to(self.weight.dtype)
        return F.conv1d(probabilities, self.weight, padding="same").transpose(1, 2)

    def describe(self) -> Description:
        """Return the number of roles, and of the tokens that each vector depends on."""
        _, num_roles, width = self.weight.shape
        return Description("roles of tokens", (f"{num_roles} roles, of {width} tokens",))

    def flops(self, length: int) -> int:
        """Count the convolution."""
        return 2 * self.weight.numel() * length
