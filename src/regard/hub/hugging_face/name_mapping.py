"""The tensors of a published checkpoint matched with a model's parameters.

An error names the tensors that do not fit, by their names in the file: the first ten of each kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from regard.errors import WeightsError
from regard.hub.hugging_face.other_folders import cut_list
from regard.models.base.checkpoint_format import CheckpointFormat, ParameterMapping

_MOST_PROBLEMS = 10
_WRAPPERS = ("_orig_mod.", "module.", "model.")
"""What ``torch.compile``, data parallelism and Lightning put before the names of all tensors."""


def rename_tensors(
    folder: Path, tensors: Mapping[str, Tensor], checkpoint_format: CheckpointFormat
) -> dict[str, Tensor]:
    """Return the tensors of a file, with the old endings of names replaced.

    What a training loop puts before all names is left out.

    Args:
        folder: Folder, for messages.
        tensors: Tensors by their names in the file.
        checkpoint_format: Has the endings that have changed.

    Returns:
        The same tensors by their present names.

    Raises:
        WeightsError: A tensor is there by its old name and by its present one.
    """
    renamed = {}
    for old_name, tensor in _without_wrappers(tensors, checkpoint_format.prefix).items():
        name = old_name
        for old, new in checkpoint_format.renamed:
            if name.endswith(old):
                name = name.removesuffix(old) + new
        if name in renamed or (name != old_name and name in tensors):
            raise WeightsError(
                f"{folder}/: {old_name} and {name} are two tensors of one parameter.  Take one of "
                "them out."
            )
        renamed[name] = tensor
    return renamed


def _without_wrappers(tensors: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    """Return tensors without what a wrapper of the model put before all of their names.

    The beginning of a format's own names is left, unless it is there twice.
    """
    for wrapper in 2 * _WRAPPERS:  # one may be in the other, in either order
        is_own = prefix.startswith(wrapper)
        is_twice = any(name.startswith(wrapper + prefix) for name in tensors)
        if all(name.startswith(wrapper) for name in tensors) and (is_twice or not is_own):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def match_tensors(
    folder: Path,
    checkpoint_format: CheckpointFormat,
    mappings: Iterable[ParameterMapping],
    tensors: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return the published tensors of every parameter.

    Args:
        folder: Folder, for messages.
        checkpoint_format: Format of the file.
        mappings: Mappings of all parameters.
        tensors: All that the file has, by name.

    Returns:
        The tensors of `mappings`, by their published names, whether the model is bare or not.

    Raises:
        WeightsError: Tensors are missing or surplus; ten of them at most are named.
    """
    is_bare = not any(name.startswith(checkpoint_format.prefix) for name in tensors)
    lacking = checkpoint_format.prefix if is_bare else ""
    file_names = _names_in_file(mappings, lacking, tensors, checkpoint_format.tied_names)
    parts = {name: tensors[key] for name, key in file_names.items() if key in tensors}
    problems = [
        *_describe_missing(list(file_names.values()), tensors),
        *_describe_surplus(file_names.values(), checkpoint_format, lacking, tensors, parts),
    ]
    if problems:
        raise WeightsError(f"{folder}/: {join_problems(problems)}")
    return parts


def _names_in_file(
    mappings: Iterable[ParameterMapping],
    lacking: str,
    tensors: Mapping[str, Tensor],
    tied_names: Mapping[str, str],
) -> dict[str, str]:
    """Return the names that the tensors of all parameters have in a file, by published name.

    Those of a bare model lack the prefix; a head next to it may have its own. Of two tied tensors
    some programs keep the one that others leave out.
    """
    names = {name: name.removeprefix(lacking) for mapping in mappings for name in mapping.remote}
    for other, original in tied_names.items():
        is_lost = original in names and names[original] not in tensors
        if is_lost and other not in names and other.removeprefix(lacking) in tensors:
            names[original] = other.removeprefix(lacking)
    return names


def _describe_missing(names: Sequence[str], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield a sentence about the names that no tensor of a file has, where there are some."""
    if missing := [name for name in names if name not in tensors]:
        noun, verb = ("tensor", "is") if len(missing) == 1 else ("tensors", "are")
        counted = f"{len(names) - len(missing)} of {len(names)} found"
        yield f"{noun} {cut_list(missing)} {verb} missing ({counted})."


def _describe_surplus(
    names: Iterable[str],
    checkpoint_format: CheckpointFormat,
    lacking: str,
    tensors: Mapping[str, Tensor],
    parts: Mapping[str, Tensor],
) -> Iterator[str]:
    """Yield a sentence about each tensor of a file that is not one of some names.

    A tensor is ignored where the format says so, and where it equals the one that it is tied to.
    """
    tied_names = checkpoint_format.tied_names
    originals = {name.removeprefix(lacking): tied_names[name] for name in tied_names}
    for name in sorted(tensors.keys() - set(names)):
        original = originals.get(name, "")
        if name.endswith(checkpoint_format.ignored):
            continue
        if original not in parts:
            yield f"tensor {name} does not belong to this model."
        elif not torch.equal(tensors[name].double(), parts[original].double()):
            yield (
                f"tensor {name} differs from {original}, to which config.json ties it "
                "(tie_word_embeddings)."
            )


def describe_mismatches(
    mapping: ParameterMapping, shape: torch.Size, parts: Mapping[str, Tensor]
) -> list[str]:
    """Describe the published tensors of a parameter that have a wrong shape or type.

    Args:
        mapping: Mapping of the parameter.
        shape: Its shape in the model.
        parts: Tensors by their published names.

    Returns:
        A sentence for each, which begins with a small letter.
    """
    num_rows = shape[0] if mapping.rows is None else mapping.rows[2]
    expected = [num_rows // len(mapping.remote), *shape[1:]]
    if mapping.is_transposed:
        expected.reverse()
    problems = []
    for name in mapping.remote:
        if not parts[name].is_floating_point():
            kind = str(parts[name].dtype).removeprefix("torch.")
            problems.append(f"tensor {name} holds {kind}, floating-point numbers were expected.")
        elif (actual := list(parts[name].shape)) != expected:
            problems.append(f"tensor {name} has shape {actual}, config.json says {expected}.")
    return problems


def join_problems(problems: list[str]) -> str:
    """Join at most ten sentences about problems; all but the first begin with a capital letter."""
    rest = len(problems) - _MOST_PROBLEMS
    if rest > 0:
        problems = [*problems[:_MOST_PROBLEMS], f"and {rest:,} more."]
    return "  ".join([problems[0], *(f"{text[0].upper()}{text[1:]}" for text in problems[1:])])


def to_local(mapping: ParameterMapping, parts: Mapping[str, Tensor]) -> Tensor:
    """Return a parameter ``[rows, ...]``: its published tensors stacked along the first axis."""
    tensors = [parts[name].t() if mapping.is_transposed else parts[name] for name in mapping.remote]
    stacked = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    if mapping.rows is not None:
        first, stop, _ = mapping.rows
        return stacked[first:stop]
    num_maps, num_heads = mapping.interleaved
    return _exchange(stacked, num_heads, num_maps)


def to_remote(
    mappings: Iterable[ParameterMapping], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the published tensors of all parameters.

    Args:
        mappings: Of all parameters; those of the rows of one tensor follow each other.
        parameters: Each ``[rows, ...]``, by name.

    Returns:
        The tensors by their published names: float32, CPU, contiguous.
    """
    tensors: dict[str, Tensor] = {}
    for mapping in mappings:
        for name, piece in _pieces(mapping, parameters[mapping.local].detach()).items():
            tensors[name] = torch.cat([tensors[name], piece]) if name in tensors else piece
    return tensors


def _pieces(mapping: ParameterMapping, parameter: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a parameter ``[rows, ...]``, or its rows of one, by name."""
    rows = _exchange(parameter.cpu().float(), *mapping.interleaved)
    pieces = rows.chunk(len(mapping.remote))
    return {
        name: (piece.t() if mapping.is_transposed else piece).contiguous()
        for name, piece in zip(mapping.remote, pieces, strict=True)
    }


def _exchange(rows: Tensor, outer: int, inner: int) -> Tensor:
    """Return rows ``[outer * inner * size, ...]`` in the order ``[inner * outer * size, ...]``."""
    if 1 in (outer, inner):
        return rows
    return rows.unflatten(0, (outer, inner, -1)).transpose(0, 1).flatten(0, 2)
