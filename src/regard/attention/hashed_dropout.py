"""Dropout of attention weights by a hash of the pair, which is recomputed, never stored."""

from __future__ import annotations

import torch
from torch import Tensor

from regard.errors import ConfigError

_LOW = 0xFFFFFFFF


def keep_pairs(seed: Tensor, heads: Tensor, queries: Tensor, keys: Tensor, rate: float) -> Tensor:
    """Draw the pairs whose weight dropout keeps.

    The mixer is lowbias32 (Wellons 2018, "Prospecting for hash functions"), applied to the head
    and query, then to the key. Cost: a dozen integer operations a pair.

    Args:
        seed: ``[1]`` integer, 0 to 2^32 - 1.
        heads: Integers that number (row, head), 0 or more; broadcastable to the result.
        queries: Integer positions, ``[..., queries, 1]``.
        keys: Integer positions, ``[..., 1, keys]``.
        rate: Fraction dropped, 0 to below 1.

    Returns:
        Boolean, the broadcast shape, True where kept; the same for the same arguments.
    """
    row = _mix(_mix((seed + heads) & _LOW) ^ (queries & _LOW))
    return _mix((row + keys * 0x9E3779B1) & _LOW) >= int(rate * (_LOW + 1))


def _mix(x: Tensor) -> Tensor:
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _LOW
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _LOW
    return x ^ (x >> 16)


def draw_seed(generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Draw a seed, ``[1]`` integer."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ConfigError(
            f"generator={generator!r}: must be a torch.Generator, such as "
            "torch.Generator().manual_seed(1)."
        )
    source = device if generator is None else generator.device
    return torch.randint(0, _LOW, (1,), generator=generator, device=source).to(device)
