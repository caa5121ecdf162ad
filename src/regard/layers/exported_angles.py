"""Cosines and sines of positions in a graph that is exported, without float64.

Far positions need more digits than float32 has, and not every runtime of ONNX has a cosine of
float64. By the theorems of addition those of position ``512 a + b`` follow from those of ``512 a``
and of ``b``, which are two tables of constants. Cost: three operations a number, and the tables.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from regard.layers.rotary_scaling import PlainAngles, RotaryScaling

_ROWS = 512  # of each table, so 262,144 positions: scores of all pairs end long before


def exported_angles(
    positions: Tensor,
    dim: int,
    base: float,
    dtype: torch.dtype,
    scaling: RotaryScaling = PlainAngles(),  # noqa: B008 - an immutable value
    *,
    period: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the cosine and the sine of ``p base^(-2i / period)`` for each position and pair.

    Args:
        positions: Whole numbers of shape ``[batch, length]``, or any other.
        dim: Twice the number of pairs.
        base: Above 0.
        dtype: Type of the results.
        scaling: How angles are changed for long texts.
        period: The divisor of the exponent; None is `dim`.

    Returns:
        Two tensors of shape ``[batch, length, dim / 2]``, with the leading axes of `positions`.
    """
    frequencies = scaling.slow_down(base ** (-np.arange(0, dim, 2) / (period or dim)), base)
    rows = np.arange(_ROWS)[:, None]
    tables = (_ROWS * rows * frequencies, rows * frequencies)  # [rows, dim / 2]
    numbers = (positions // _ROWS, positions % _ROWS)
    (far_cos, far_sin), (near_cos, near_sin) = (
        (_constant(np.cos(angles), dtype)[index], _constant(np.sin(angles), dtype)[index])
        for angles, index in zip(tables, numbers, strict=True)
    )
    cosines = far_cos * near_cos - far_sin * near_sin
    sines = far_sin * near_cos + far_cos * near_sin
    if scaling.amplitude == 1:
        return cosines, sines
    return scaling.amplitude * cosines, scaling.amplitude * sines


def _constant(values: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Return a table ``[rows, dim / 2]`` as a constant of the graph that is traced."""
    return torch.tensor(values.tolist(), dtype=dtype)
