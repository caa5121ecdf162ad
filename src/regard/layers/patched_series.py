"""Numeric series as a sequence of patches, and quantiles of what follows them.

The history of a window is cut into patches, each of which becomes a token (Nie et al. 2023, "A Time
Series is Worth 64 Words", section 3.1). The steps to be predicted are cut into patches, too, whose
tokens hold what is known of them ahead. The output layer maps the state of each future token to the
quantiles of its steps; they rise with their level by construction: the median, and distances above
0 that are summed up on both sides of it. Cost: a linear map a patch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention.cumulative_sum import cumulative_sum
from regard.layers.dropout import Dropout
from regard.layers.initialization import fill_normal
from regard.layers.layer import Description, Layer
from regard.layers.linear import Linear

_POSITION_STD = 0.1  # of the initial vectors of positions; mapped patches have variance of about 1
_FIRST_GAP = 0.2  # distance of neighbouring quantiles before training, in standard deviations


class PatchedSeries(Layer):
    """Tokens of the patches of a history and of a horizon, with learned positions.

    Args:
        dim: Size of the model.
        patch: Steps of a patch, which divide the window.
        window: Steps of the history.
        horizon: Steps to be predicted.
        num_calendar: Features of the calendar of a step, of which a patch takes its first step's.
        num_known: Columns that are known ahead, of every step.
        num_observed: Columns that are known as far as the history, of every step.
        dropout: Dropout rate of the tokens.
    """

    is_embedding = True

    def __init__(
        self,
        dim: int,
        *,
        patch: int,
        window: int,
        horizon: int,
        num_calendar: int,
        num_known: int,
        num_observed: int,
        dropout: Dropout,
    ) -> None:
        super().__init__()
        self.patch, self.num_past = patch, window // patch
        self.num_future = math.ceil(horizon / patch)
        num_columns = 2 + num_known + num_observed  # values, and which of them are missing
        self.past = Linear(patch * num_columns + num_calendar, dim)
        self.future = Linear(patch * num_known + num_calendar, dim)
        self.positions = nn.Parameter(torch.empty(self.num_past + self.num_future, dim))
        fill_normal(self.positions, _POSITION_STD)
        self.dropout = dropout

    def forward(
        self, values: Tensor, is_missing: Tensor, calendar: Tensor, known: Tensor, observed: Tensor
    ) -> Tensor:
        """Map windows to tokens, those of the history first.

        Args:
            values: Scaled values, guesses where missing, ``[batch, window]``.
            is_missing: Bool, ``[batch, window]``.
            calendar: Calendar of the first step of each patch, ``[batch, patches, num_calendar]``.
            known: ``[batch, window + horizon, num_known]``.
            observed: ``[batch, window, num_observed]``.

        Returns:
            ``[batch, past patches + future patches, dim]``.
        """
        window = values.shape[1]
        columns = torch.stack([values, is_missing.to(values.dtype)], dim=2)
        columns = torch.cat([columns, known[:, :window], observed], dim=2)
        past = self.past(self._patches(columns, calendar[:, : self.num_past]))
        future = self.future(self._patches(known[:, window:], calendar[:, self.num_past :]))
        x = torch.cat([past, future], dim=1)
        return self.dropout(x + self.positions.to(x.dtype))

    def _patches(self, columns: Tensor, calendar: Tensor) -> Tensor:
        """Return the columns of all steps of each patch, and its calendar.

        Args:
            columns: ``[batch, length, columns]``; zeros fill the last patch.
            calendar: ``[batch, patches, num_calendar]``.

        Returns:
            ``[batch, patches, patch * columns + num_calendar]``.
        """
        columns = F.pad(columns, (0, 0, 0, -columns.shape[1] % self.patch))
        patches = columns.unflatten(1, (-1, self.patch)).flatten(2)
        return torch.cat([patches, calendar], dim=2)

    def describe(self) -> Description:
        """Return the sizes of the patches, and their numbers."""
        facts = (
            f"{self.num_past:,} patches of {self.patch:,} steps",
            f"{self.num_future:,} to be predicted",
            "learned positions",
        )
        return Description("patches", facts)

    def flops(self, length: int) -> int:  # noqa: ARG002 - their number is fixed
        """Count the maps of all patches."""
        past, future = self.past.weight.numel(), self.future.weight.numel()
        return 2 * (self.num_past * past + self.num_future * future)


class QuantileHead(Layer):
    """Quantiles of the steps of each patch, which rise with their level.

    Args:
        dim: Size of the model.
        patch: Steps of a patch.
        num_levels: Number of quantiles; the one in the middle is the median.
    """

    def __init__(self, dim: int, *, patch: int, num_levels: int) -> None:
        super().__init__()
        self.patch, self.num_levels = patch, num_levels
        self.projection = Linear(dim, patch * num_levels)
        nn.init.zeros_(self.projection.weight)  # the linear path is the first forecast
        shift = math.log(math.expm1(_FIRST_GAP))
        with torch.no_grad():
            bias = self.projection.bias.view(patch, num_levels)
            bias.fill_(shift)
            bias[:, num_levels // 2] = 0.0

    def forward(self, states: Tensor) -> Tensor:
        """Map the states of patches to the quantiles of their steps.

        Args:
            states: ``[batch, patches, dim]``.

        Returns:
            ``[batch, patches * patch, num_levels]``.
        """
        outputs = self.projection(states).unflatten(2, (self.patch, self.num_levels)).flatten(1, 2)
        middle = self.num_levels // 2
        median, gaps = outputs[..., middle : middle + 1], F.softplus(outputs)
        below = cumulative_sum(gaps[..., :middle].flip(-1), -1).flip(-1)
        above = cumulative_sum(gaps[..., middle + 1 :], -1)
        return torch.cat([median - below, median, median + above], dim=-1)

    def describe(self) -> Description:
        """Return the number of quantiles and steps."""
        facts = (f"{self.num_levels} quantiles of {self.patch:,} steps",)
        return Description("quantiles", facts, out_dim=self.patch * self.num_levels)


class LinearPath(Linear):
    """A linear map of a whole window to all steps ahead, 0 at first (Zeng et al. 2023).

    Args:
        in_dim: Steps of the window, and features of the calendar.
        out_dim: Steps ahead.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim)
        nn.init.zeros_(self.weight)

    def describe(self) -> Description:
        """Return its sizes."""
        facts = (f"{self.in_features:,} numbers to {self.out_features:,} steps",)
        return Description("linear path", facts, out_dim=self.out_features)

    def flops(self, length: int) -> int:  # noqa: ARG002 - once for a window
        """Count one product for a window."""
        return 2 * self.weight.numel()
