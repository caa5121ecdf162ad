"""Weights as integers of 8 bits with a scale for each row, as a folder of the compiled decoder has.

A matrix ``[rows, columns]`` is ``scale[:, None] * integers``, the largest number of each row 127:
the rounding of the compiled decoder, which finds the same integers again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from regard.errors import WeightsError

_LARGEST = 127
_SCALE = ".scale"


def quantize(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the matrices as integers, and with their scales.

    Args:
        tensors: Weights by name. Tables of positions and of distances, and tensors other than
            matrices, are unchanged.
    """
    quantized: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or not tensor.is_floating_point() or "position" in name:
            quantized[name] = tensor
            continue
        largest = tensor.detach().float().abs().amax(1, keepdim=True)  # [rows, 1]
        scale = largest / _LARGEST
        factor = torch.where(largest > 0, _LARGEST / largest, 0.0)
        quantized[name] = (tensor.detach().float() * factor).round().to(torch.int8)
        quantized[name + _SCALE] = scale[:, 0]
    return quantized


def dequantize(tensors: Mapping[str, Tensor], *, name: str) -> dict[str, Tensor]:
    """Return the weights of `quantize` as float32.

    Args:
        tensors: Weights and scales by name.
        name: Their file, for messages.

    Raises:
        WeightsError: A matrix of integers has no scales.
    """
    weights: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = tensors.get(key + _SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise WeightsError(f"{name}: tensor {key} holds integers without their scales.")
            weights[key] = tensor.float() * scale[:, None]  # [rows, columns]
        elif not _is_scale(key, tensors):
            weights[key] = tensor
    return weights


def is_quantized(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether weights are those of `quantize`."""
    return any(tensor.dtype == torch.int8 for tensor in tensors.values())


def weights_alone(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of weights by name, without those of their scales."""
    return {name: shape for name, shape in shapes.items() if not _is_scale(name, shapes)}


def _is_scale(name: str, names: Mapping[str, object]) -> bool:
    return name.endswith(_SCALE) and name.removesuffix(_SCALE) in names
