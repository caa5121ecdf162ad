"""Detect where a loss has stopped falling, by the means of two windows."""

from __future__ import annotations

import math

from regard.option_checks import require_number, require_whole


class Plateau:
    """Compares the mean of the last `window` losses with the mean of the `window` before.

    Args:
        window: Losses in a mean, 1 or more.
        threshold: Smallest relative decrease from mean to mean that counts as falling, 0 or more.

    Raises:
        ConfigError: An argument is out of range.

    >>> plateau = Plateau(window=2, threshold=0.1)
    >>> for loss in (4.0, 2.0, 1.0, 1.0, 1.0, 1.0):
    ...     plateau.add(loss)
    ...     plateau.is_reached
    False
    False
    False
    False
    False
    True
    """

    def __init__(self, window: int = 50, threshold: float = 1e-2) -> None:
        require_whole("window", window, 1)
        require_number("threshold", threshold, "0 or more", lambda threshold: threshold >= 0)
        self._window, self._threshold = window, threshold
        self.losses: list[float] = []
        """The last two windows, oldest first."""

    def add(self, loss: float) -> None:
        """Add the next loss."""
        self.losses.append(loss)
        del self.losses[: -2 * self._window]

    @property
    def is_reached(self) -> bool:
        """Whether the loss hardly falls any more; False before two windows are full."""
        if len(self.losses) < 2 * self._window:
            return False
        before = math.fsum(self.losses[: self._window])
        after = math.fsum(self.losses[self._window :])
        return before - after < self._threshold * abs(before)
