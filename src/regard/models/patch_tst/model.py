"""Patched Transformer for forecasts: an encoder over patches of a series, and quantiles ahead.

Nie et al. 2023, "A Time Series is Worth 64 Words: Long-term Forecasting with Transformers"
(PatchTST): series by series ("channel-independent"), patches as tokens, each window scaled by its
own mean and deviation (Kim et al. 2022, "Reversible Instance Normalization"). Other than there, the
steps to be predicted are tokens, too, which hold the calendar and whatever is known ahead, and the
output is quantiles of every step at once. A linear map of the history next to it (Zeng et al. 2023,
"Are Transformers Effective for Time Series Forecasting?") gives the median that the Transformer
corrects. Several members of an ensemble, each with weights of its own, are trained together; their
quantiles are averaged. Cost of a pass: O(patches^2 dim + patches dim^2) a layer and member.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regard.attention import Pattern
from regard.errors import ShapeError
from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.layers.feed_forward import Activation
from regard.layers.norm import LayerNorm
from regard.layers.patched_series import LinearPath, PatchedSeries, QuantileHead
from regard.layers.transformer_block import BlockConfig, TransformerBlock
from regard.models.base.model import FamilyConfig, Model
from regard.models.base.pattern_support import check_patterns
from regard.settings.validation import (
    require_at_least,
    require_multiple,
    require_probability,
)

_ROUNDING = 64  # steps of the type in which a window is summed: what varies less is constant
_SMALLEST_SCALE = 1e-12  # of windows of zeros


class PatchTstConfig(FamilyConfig, frozen=True, kw_only=True, tag="patch_tst"):
    """The dimensions of a patched Transformer.

    Args:
        window: Steps of the history that is read, a multiple of `patch`.
        horizon: Steps that are predicted.
        patch: Steps of a token.
        scaled_steps: Last steps of the history whose mean and deviation scale a window.
        num_calendar: Features of the calendar of a step.
        num_known: Columns that are known ahead.
        num_observed: Columns that are known as far as the history.
        num_levels: Quantiles of each step, an odd number.
        num_members: Members of the ensemble.
        num_layers: Blocks of a member; 0 leaves the linear map alone.
        dim: Size of the model, a multiple of `num_heads`.
        num_heads: Attention heads in every block.
        hidden_dim: Size inside the feed-forward networks.
        dropout: Rate on tokens and sub-layer outputs, 0 to below 1.
        activation: Activation of the feed-forward networks.
        has_linear: Whether a linear map of the history gives the median that the Transformer
            corrects.
    """

    window: int = 336
    horizon: int = 48
    patch: int = 16
    scaled_steps: int = 336
    num_calendar: int = 0
    num_known: int = 0
    num_observed: int = 0
    num_levels: int = 11
    num_members: int = 1
    num_layers: int = 3
    dim: int = 64
    num_heads: int = 4
    hidden_dim: int = 256
    dropout: float = 0.1
    activation: Activation = "gelu"
    has_linear: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "window", "horizon", "patch", "scaled_steps", "num_levels")
        require_at_least(0, self, "num_calendar", "num_known", "num_observed")
        require_at_least(1, self, "num_members", "num_layers", "dim", "num_heads", "hidden_dim")
        require_multiple(self, "window", divisor="patch")
        require_multiple(self, "dim", divisor="num_heads")
        require_probability(self, "dropout")
        if self.num_levels % 2 == 0:
            raise ValueError(f"num_levels must be odd, not {self.num_levels}")

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        members = f"{self.num_members} members of " if self.num_members > 1 else ""
        return (
            f"{members}{self.num_layers} layers, d={self.dim}, {self.num_heads} heads, "
            f"ff {self.hidden_dim}, {self.window:,} steps in patches of {self.patch:,} to "
            f"{self.horizon:,}{', linear path' if self.has_linear else ''}, "
            f"attention {attention.summary()}"
        )

    @property
    def num_patches(self) -> int:
        """Tokens of a window: patches of the history, and of the horizon."""
        return self.window // self.patch + math.ceil(self.horizon / self.patch)

    def longest_input(self, max_length: int) -> int:  # noqa: ARG002 - of text
        """Return the rows of the longest input: those of a window."""
        return self.num_patches

    def patterns(self, attention: AttentionConfig) -> list[Pattern]:
        """Return the pattern of each layer."""
        return attention.encoder_patterns(self.num_layers)

    def block(self) -> BlockConfig:
        """Return the dimensions of one block."""
        return BlockConfig(
            dim=self.dim,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            dropout=self.dropout,
            norm="pre",
            activation=self.activation,
        )


class SeriesInputs(NamedTuple):
    """What the model reads of windows.

    Args:
        values: History, ``[batch, window]``, imputed where missing.
        is_missing: Bool, ``[batch, window]``; None means that no value is missing.
        calendar: Calendar of the first step of each patch, of history and horizon,
            ``[batch, num_patches, num_calendar]``; None where the model has none.
        known: ``[batch, window + horizon, num_known]``, mean 0 and variance 1; None where the
            model has none.
        observed: ``[batch, window, num_observed]``, in any unit; None where the model has none.
    """

    values: Tensor
    is_missing: Tensor | None = None
    calendar: Tensor | None = None
    known: Tensor | None = None
    observed: Tensor | None = None


class ScaledQuantiles(NamedTuple):
    """Quantiles in standard deviations of their window from its mean.

    Args:
        quantiles: ``[members, batch, horizon, levels]``.
        mean: Mean of each window, ``[batch, 1]``.
        scale: Standard deviation of each window, ``[batch, 1]``, above 0.
    """

    quantiles: Tensor
    mean: Tensor
    scale: Tensor


class PatchTst(Model):
    """The ensemble.

    Args:
        config: Its dimensions.
        attention: The pattern of each layer.
    """

    input_name = "series"

    def __init__(
        self,
        config: PatchTstConfig,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(dim=config.dim)
        check_patterns(config, attention, lacks="decoder")
        self.config = config
        self.members = nn.ModuleList(
            PatchTstMember(config, config.patterns(attention)) for _ in range(config.num_members)
        )

    def forward(
        self,
        values: Tensor,
        is_missing: Tensor | None = None,
        calendar: Tensor | None = None,
        known: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Tensor:
        """Compute the quantiles of the steps after each window, in the units of its values.

        Args:
            values: History, ``[batch, window]``, imputed where missing.
            is_missing: Bool, ``[batch, window]``; None means that no value is missing.
            calendar: Calendar of the first step of each patch, of history and horizon,
                ``[batch, num_patches, num_calendar]``; None where the model has none.
            known: ``[batch, window + horizon, num_known]``, mean 0 and variance 1; None where the
                model has none.
            observed: ``[batch, window, num_observed]``; None where the model has none.

        Returns:
            ``[batch, horizon, levels]``, rising with the level, float32 at least.

        Raises:
            ShapeError: The inputs have another shape.
        """
        scaled = self.scaled(SeriesInputs(values, is_missing, calendar, known, observed))
        quantiles = scaled.quantiles.mean(0).to(scaled.mean.dtype)
        return quantiles * scaled.scale[..., None] + scaled.mean[..., None]

    def scaled(self, inputs: SeriesInputs) -> ScaledQuantiles:
        """Compute the quantiles of every member in units of each window's deviation.

        Returns:
            The quantiles, ``[members, batch, horizon, levels]``, with the mean and deviation of
            each window, ``[batch, 1]``.

        Raises:
            ShapeError: The inputs have another shape.
        """
        config = self.config
        values, is_missing = inputs.values, inputs.is_missing
        if is_missing is None:
            is_missing = torch.zeros_like(values, dtype=torch.bool)
        columns = []
        for name, part, steps in (
            ("calendar", inputs.calendar, config.num_patches),
            ("known", inputs.known, config.window + config.horizon),
            ("observed", inputs.observed, config.window),
        ):
            shape = [values.shape[0], steps, getattr(config, f"num_{name}")]
            columns.append(values.new_zeros(shape) if part is None else part)
            if list(columns[-1].shape) != shape:
                raise ShapeError(f"{name} is {list(columns[-1].shape)}; {shape} is expected.")
        if list(values.shape[1:]) != [config.window] or is_missing.shape != values.shape:
            raise ShapeError(
                f"values are {list(values.shape)}, is_missing {list(is_missing.shape)}; "
                f"[batch, {config.window}] is expected."
            )
        z, mean, scale = self.scale(values, is_missing)
        if config.num_observed:
            rows = columns[2].mT.flatten(0, 1)  # [batch * num_observed, window]
            centre, spread = _mean_and_scale(rows, torch.zeros_like(rows, dtype=torch.bool))
            columns[2] = ((rows - centre) / spread).unflatten(0, (-1, config.num_observed)).mT
        dtype = self.compute_dtype
        z, *columns = (part.to(dtype) for part in (z, *columns))
        quantiles = [member(z, is_missing, *columns) for member in self.members]
        return ScaledQuantiles(torch.stack(quantiles), mean, scale)

    def scale(self, values: Tensor, is_missing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return histories in units of their deviation, and mean and deviation of each.

        Args:
            values: ``[batch, window]``.
            is_missing: Bool, ``[batch, window]``.

        Returns:
            Scaled values ``[batch, window]``, means and scales ``[batch, 1]``, float32 at least.
        """
        mean, scale = _mean_and_scale(values, is_missing, self.config.scaled_steps)
        return (values - mean) / scale, mean, scale

    @property
    def output_name(self) -> str:
        """Quantiles of the steps ahead."""
        return f"{self.config.num_levels} quantiles of {self.config.horizon:,} steps"

    def linear_paths(self) -> list[LinearPath]:
        """Return the linear path of each member; none where the model has none."""
        paths = (getattr(member, "linear", None) for member in self.members)
        return [path for path in paths if path is not None]

    def stacks(self) -> dict[str, list[nn.Module]]:
        """Return the blocks of each member, first to last."""
        members = (member for member in self.members if isinstance(member, PatchTstMember))
        return {f"members.{number}": list(member.blocks) for number, member in enumerate(members)}

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        patterns = self.config.patterns(attention) * self.config.num_members
        return self.bytes_kept(patterns, length, num_heads=self.config.num_heads)


class PatchTstMember(nn.Module):
    """One member of the ensemble.

    Args:
        config: Its dimensions.
        patterns: Pattern of each layer.
    """

    def __init__(self, config: PatchTstConfig, patterns: list[Pattern]) -> None:
        super().__init__()
        self.horizon = config.horizon
        self.front_end = PatchedSeries(
            config.dim,
            patch=config.patch,
            window=config.window,
            horizon=config.horizon,
            num_calendar=config.num_calendar,
            num_known=config.num_known,
            num_observed=config.num_observed,
            dropout=Dropout(config.dropout),
        )
        block = config.block()
        self.blocks = nn.ModuleList(
            TransformerBlock(block, block.self_attention(pattern)) for pattern in patterns
        )
        self.norm = LayerNorm(config.dim)
        self.head = QuantileHead(config.dim, patch=config.patch, num_levels=config.num_levels)
        self.linear: LinearPath | None = None
        if config.has_linear:
            self.linear = LinearPath(config.window + config.num_calendar, config.horizon)

    def forward(
        self,
        z: Tensor,
        is_missing: Tensor,
        calendar: Tensor,
        known: Tensor,
        observed: Tensor,
    ) -> Tensor:
        """Compute the quantiles of scaled windows.

        Args:
            z: Scaled values, ``[batch, window]``.
            is_missing: Bool, ``[batch, window]``.
            calendar: ``[batch, num_patches, num_calendar]``.
            known: ``[batch, window + horizon, num_known]``.
            observed: Scaled, ``[batch, window, num_observed]``.

        Returns:
            ``[batch, horizon, levels]``, float32 at least.
        """
        x = self.front_end(z, is_missing, calendar, known, observed)
        for block in self.blocks:
            x = block(x)
        states = self.norm(x[:, self.front_end.num_past :])
        quantiles = self.head(states)[:, : self.horizon]  # [batch, horizon, levels]
        quantiles = quantiles.to(torch.promote_types(quantiles.dtype, torch.float32))
        if self.linear is None:
            return quantiles
        first = calendar[:, self.front_end.num_past]  # of the first step ahead
        return quantiles + self.linear(torch.cat([z, first], dim=1))[..., None]


def _mean_and_scale(
    values: Tensor, is_missing: Tensor, scaled_steps: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the last steps of windows, ``[batch, 1]`` each.

    A window without a value has mean 0; one that is constant, except for rounding, has a scale as
    small as that, so that its forecast stays at its value.

    Args:
        values: ``[batch, window]``.
        is_missing: Bool, ``[batch, window]``.
        scaled_steps: Number of last steps; all where it is None or these have no value.
    """
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    weights = (~is_missing).to(wide.dtype)
    recent = weights
    if scaled_steps is not None:  # not written in place, which `torch.func.linearize` loses
        steps = torch.arange(values.shape[1], device=values.device)
        recent = weights * (steps >= values.shape[1] - scaled_steps)
    weights = torch.where(recent.sum(1, keepdim=True) > 0, recent, weights)
    count = weights.sum(1, keepdim=True).clamp(min=1.0)
    mean = (wide * weights).sum(1, keepdim=True) / count
    variance = ((wide - mean).square() * weights).sum(1, keepdim=True) / count
    scale = variance.sqrt()
    size = (wide * weights).abs().amax(1, keepdim=True)
    smallest = (_ROUNDING * torch.finfo(wide.dtype).eps * size).clamp(min=_SMALLEST_SCALE)
    return mean, torch.where(scale > smallest, scale, smallest)


__all__ = ["PatchTst", "PatchTstConfig", "PatchTstMember", "ScaledQuantiles", "SeriesInputs"]
