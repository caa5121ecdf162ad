"""A learned bias of scores by the distance of query and key (Raffel et al. 2020, section 2.1).

    A_ij = q_i . k_j + b[bucket(j - i)]

with a number b for every head and bucket; near distances have a bucket each, far ones share them.
Layers may share one table. Cost: a look-up for every pair.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regard.attention import T5Relative
from regard.layers.initialization import fill_normal
from regard.layers.layer import Description, Layer


class RelativeBias(Layer):
    """The table of the numbers b.

    Args:
        num_heads: Number of heads.
        num_buckets: Buckets of distances, 4 or more; of a decoder, which only looks back, 2.
        max_distance: From here on all distances share the last bucket.
        bidirectional: Whether keys after the query have buckets of their own, as in an encoder.
        std: Standard deviation of the initial numbers.
    """

    entrywise = ("weight",)

    def __init__(
        self,
        num_heads: int,
        *,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        std: float = 0.02,
    ) -> None:
        super().__init__()
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.weight = nn.Parameter(fill_normal(torch.empty(num_heads, num_buckets), std))
        self.function(torch.float32)  # which checks the numbers

    def function(self, dtype: torch.dtype) -> T5Relative:
        """Return the bias that `attend` takes, with its table in a type."""
        return T5Relative(self.weight.to(dtype), self.bidirectional, self.max_distance)

    def of_queries(self, positions: Tensor, key_positions: Tensor) -> Tensor:
        """Compute the bias of one query of each row.

        Args:
            positions: Of the queries, ``[rows]``.
            key_positions: Of the keys, the same for all rows, ``[keys]``.

        Returns:
            ``[rows, heads, 1, keys]``.
        """
        bias = self.function(self.weight.dtype)
        return bias(positions[:, None, None, None], key_positions, bias.tensors())

    def describe(self) -> Description:
        """Return the sizes of the table; nothing passes through this layer itself."""
        heads, buckets = self.weight.shape
        facts = (f"{buckets} buckets to distance {self.max_distance}", f"{heads} heads")
        return Description("relative positions", facts, out_dim=0)
