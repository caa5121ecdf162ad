"""The tensors of a published checkpoint matched with a model's parameters.

Everything that does not fit is found before anything is refused, and named as the file names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from regard.errors import WeightsError
from regard.models.base.checkpoint_format import CheckpointFormat, ParameterMapping


def renamed(tensors: dict[str, Tensor], checkpoint_format: CheckpointFormat) -> dict[str, Tensor]:
    """Give the tensors of old files the names of today.

    Args:
        tensors: By their names in the file.
        checkpoint_format: Has the endings of names that have changed.
    """
    today = {}
    for name, tensor in tensors.items():
        for old, new in checkpoint_format.renamed:
            if name.endswith(old):
                name = name.removesuffix(old) + new  # noqa: PLW2901 - the name goes on changing
        today[name] = tensor
    return today


def match(
    folder: Path,
    checkpoint_format: CheckpointFormat,
    mappings: Iterable[ParameterMapping],
    tensors: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Find the tensors of every parameter.

    Args:
        folder: For messages.
        checkpoint_format: Of the file.
        mappings: Of all parameters.
        tensors: All that the file has, by name.

    Returns:
        The tensors of `mappings`, by their published names, whether the model is bare or not.

    Raises:
        WeightsError: Tensors are missing or surplus; all of them are named.
    """
    wanted = [name for mapping in mappings for name in mapping.remote]
    # A bare model's names lack the prefix; a head beside it may have its own.
    is_bare = not any(name.startswith(checkpoint_format.prefix) for name in tensors)
    prefix = checkpoint_format.prefix if is_bare else ""
    found = {
        name: tensors[name.removeprefix(prefix)]
        for name in wanted
        if name.removeprefix(prefix) in tensors
    }
    problems = _missing(wanted, found, prefix)
    surplus = tensors.keys() - {name.removeprefix(prefix) for name in wanted}
    for name in sorted(surplus):
        if not name.endswith(checkpoint_format.ignored or "\0"):
            problems += _judge(name, checkpoint_format, tensors[name], found)
    if problems:
        raise WeightsError(f"{folder}/: {sentences(problems)}")
    return found


def _missing(wanted: list[str], found: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Name the tensors that are missing, all of them, as the file would."""
    missing = [name.removeprefix(prefix) for name in wanted if name not in found]
    if not missing:
        return []
    noun, verb = ("tensor", "is") if len(missing) == 1 else ("tensors", "are")
    counted = f"{len(found)} of {len(wanted)} found"
    return [f"{noun} {', '.join(missing)} {verb} missing ({counted})."]


def _judge(
    name: str, checkpoint_format: CheckpointFormat, tensor: Tensor, found: Mapping[str, Tensor]
) -> list[str]:
    """Describe what is wrong with a tensor of no parameter; a true copy of another is right."""
    original = checkpoint_format.tied_names.get(name)
    if original is None or original not in found:
        return [f"tensor {name} does not belong to this model."]
    if torch.equal(tensor.double(), found[original].double()):
        return []
    return [f"tensor {name} differs from {original}, to which config.json ties it."]


def misfits(mapping: ParameterMapping, shape: torch.Size, parts: Mapping[str, Tensor]) -> list[str]:
    """Describe the tensors that cannot be those of a parameter.

    Args:
        mapping: Of the parameter.
        shape: Its shape in the model.
        parts: Tensors by their published names.

    Returns:
        A sentence for each, without a capital.
    """
    expected = [shape[0] // len(mapping.remote), *shape[1:]]
    if mapping.is_transposed:
        expected.reverse()
    problems = []
    for name in mapping.remote:
        if not parts[name].is_floating_point():
            kind = str(parts[name].dtype).removeprefix("torch.")
            problems.append(f"tensor {name} holds {kind}, floating-point numbers were expected.")
        elif list(parts[name].shape) != expected:
            given = list(parts[name].shape)
            problems.append(f"tensor {name} has shape {given}, config.json says {expected}.")
    return problems


def sentences(problems: list[str]) -> str:
    """Join problems; all but the first, which a colon precedes, begin with a capital."""
    return "  ".join([problems[0], *(f"{text[0].upper()}{text[1:]}" for text in problems[1:])])


def joined(mapping: ParameterMapping, parts: Mapping[str, Tensor]) -> Tensor:
    """Build a parameter from its published tensors."""
    tensors = [parts[name].t() if mapping.is_transposed else parts[name] for name in mapping.remote]
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def split(mapping: ParameterMapping, parameter: Tensor) -> dict[str, Tensor]:
    """Build the published tensors of a parameter; float32, on the CPU, contiguous."""
    pieces = parameter.cpu().float().chunk(len(mapping.remote))
    return {
        name: (piece.t() if mapping.is_transposed else piece).contiguous()
        for name, piece in zip(mapping.remote, pieces, strict=True)
    }
