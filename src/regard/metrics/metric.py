"""What people read of a metric and of a floor, a score that needs no training."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """A figure that evaluations have.

    Args:
        title: Its name in a sentence, such as ``exact match``.
        unit: Its unit or its range; empty for none.
        num_digits: Digits behind the point in a column of numbers.
        short: Its title above a column, where the title is too long for that.
        is_better_lower: Whether a lower figure is better.
    """

    title: str
    unit: str = ""
    num_digits: int = 1
    short: str = ""
    is_better_lower: bool = False

    @property
    def column(self) -> str:
        """Its title above a column of numbers."""
        return self.short or self.title

    @property
    def heading(self) -> str:
        """Its title as the first word of a line; one that is spelled with capitals keeps them."""
        first = self.title.partition(" ")[0]
        return self.title[:1].upper() + self.title[1:] if first.islower() else self.title

    @property
    def axis(self) -> str:
        """Its title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


class FloorScore(NamedTuple):
    """A score that needs no training.

    Args:
        title: How it is reached, such as ``copying the source``.
        metric: Name of the figure that it is compared with.
        has_article: Whether it has an article within a sentence.
    """

    title: str
    metric: str
    has_article: bool = True

    @property
    def phrase(self) -> str:
        """Its title within a sentence."""
        return f"the {self.title}" if self.has_article else self.title
