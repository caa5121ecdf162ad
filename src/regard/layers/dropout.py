"""Dropout (Srivastava et al. 2014) with masks cut from a pool of random bits.

Drawing one random number for every activation costs a CPU as much as all matrix products of a
small Transformer together. Here a pool of random bits is drawn once a step, and every dropout site
takes a slice of it that begins at a random offset: the masks of two sites are shifts of the
same bits, each bit independent of the others within a slice. Cost: one multiplication an element.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_NUM_BITS = 1 << 21
_MOST_SERVED = 64 * _NUM_BITS  # bits handed out before new ones are drawn
_LEVELS = 256  # masks are drawn from bytes, so a rate is a multiple of 1/256
_FINE_LEVELS = 1 << 32  # of masks drawn from words, for rates that bytes would round to 0 or 1


class SharedDropoutMasks:
    """Masks for the dropout layers of one model, cut from one pool of random bits.

    Args:
        seed: Seeds the first pool; `reseed` starts another.
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator()
        self._masks: dict[tuple[int, int, torch.dtype, torch.device], Tensor] = {}
        self._served = 0
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Draw new bits: the next masks depend only on `seed` and the calls after this one."""
        self._generator.manual_seed(seed)
        self._masks.clear()
        self._served = 0

    def mask(self, template: Tensor, threshold: int, num_levels: int = _LEVELS) -> Tensor:
        """Return a mask of the shape, type and device of `template`.

        Args:
            template: Any tensor, such as ``[batch, length, dim]``.
            threshold: Elements whose random number is below it are dropped, 0 to below
                `num_levels`.
            num_levels: The random numbers are 0 to below it: 2^8 or 2^32.

        Returns:
            Zeros and ``num_levels / (num_levels - threshold)``, same shape as `template`.
        """
        size = template.numel()
        if 2 * size > _NUM_BITS:
            return self._draw(size, threshold, num_levels).to(template).view(template.shape)
        self._served += size
        if self._served > _MOST_SERVED:
            self._masks.clear()
            self._served = size
        key = (threshold, num_levels, template.dtype, template.device)
        if key not in self._masks:
            self._masks[key] = self._draw(_NUM_BITS, threshold, num_levels).to(template)
        offset = int(torch.randint(_NUM_BITS - size + 1, (), generator=self._generator))
        return self._masks[key][offset : offset + size].view(template.shape)

    def _draw(self, size: int, threshold: int, num_levels: int) -> Tensor:
        per_word = 8 if num_levels == _LEVELS else 2
        words = torch.empty((size + per_word - 1) // per_word, dtype=torch.int64)
        words.random_(-(2**63), None, generator=self._generator)
        if num_levels == _LEVELS:
            is_kept = words.view(torch.uint8)[:size] >= threshold
        else:  # int32 numbers begin at -2^31
            is_kept = words.view(torch.int32)[:size] >= threshold - num_levels // 2
        return is_kept * (num_levels / (num_levels - threshold))


class Dropout(nn.Module):
    """Zero a fraction of the activations in training and scale up the others.

    Args:
        rate: Probability of dropping an element, 0 to below 1; rounded to a multiple of 1/256, or
            of 2^-32 where that would be 0 or 1.
        masks: Shared by all dropout layers of a model.
    """

    def __init__(self, rate: float, masks: SharedDropoutMasks) -> None:
        super().__init__()
        self.rate = rate
        """The argument, not rounded."""
        is_coarse = rate == 0 or 0 < round(rate * _LEVELS) < _LEVELS
        self.num_levels = _LEVELS if is_coarse else _FINE_LEVELS
        self.threshold = round(rate * self.num_levels)
        if rate > 0:  # below 2^-33, or that close to 1
            self.threshold = min(max(1, self.threshold), self.num_levels - 1)
        self.masks = masks

    @property
    def is_active(self) -> bool:
        """Whether a call drops anything."""
        return self.training and self.threshold > 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of a tensor of any shape, such as ``[batch, length, dim]``."""
        return x * self.masks.mask(x, self.threshold, self.num_levels) if self.is_active else x

    def add(self, residual: Tensor, x: Tensor) -> Tensor:
        """Compute ``residual + dropout(x)`` in one pass; both have the same shape."""
        if not self.is_active:
            return residual + x
        return torch.addcmul(residual, x, self.masks.mask(x, self.threshold, self.num_levels))

    def extra_repr(self) -> str:
        """Return the rate as rounded."""
        return f"rate={self.threshold / self.num_levels:.4f}"
