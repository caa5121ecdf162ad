"""The parts of a built model in the order in which data passes them, with sizes and costs.

Nothing here knows a family or a layer: what a part is, what it costs and how data flows through it
come from the layers (`regard.layers.layer`), and what only a model can say from the model. A layer
that describes itself is one part; any other module is divided into its children.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from regard.layers.layer import (
    Description,
    Flow,
    Layer,
    count_flops,
    describe,
    describe_rows,
)
from regard.models import EncoderDecoder, Model, TextModel
from regard.settings.validation import require_kind

_SOURCE_NAMES = ("source", "encoder")  # beginnings
_OUTPUT_WEIGHT, _OUTPUT_BIAS = "output_weight", "output_bias"


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Args:
        name: Its path in the model, as in the names of its weights.
        description: What it is.
        shape: Shape of its output for one row, without the batch; empty where it has none of its
            own.
        num_parameters: Its own; a table that an earlier part has is not counted again.
        weight_bytes: Bytes of its parameters.
        flops: Operations of a forward pass of one row.
        ties: Parts whose weights it shares.
        module: The layer or block; None for a bare table or the output.
        is_source: Whether it reads the source of an encoder-decoder.
        parts: Its own parts, in the order of data.
    """

    name: str
    description: Description
    shape: tuple[int, ...]
    num_parameters: int
    weight_bytes: int
    flops: int
    ties: tuple[str, ...]
    module: nn.Module | None = None
    is_source: bool = False
    parts: tuple[Part, ...] = ()

    @property
    def reads_source(self) -> bool:
        """Whether it attends to the source of an encoder-decoder."""
        return isinstance(self.module, Layer) and self.module.reads_source

    def equals_but_for_name(self, other: Part) -> bool:
        """Return whether another part does the same with weights of its own."""
        return (
            (self.description, self.shape, self.num_parameters, self.flops, self.ties)
            == (other.description, other.shape, other.num_parameters, other.flops, other.ties)
            and self.is_source == other.is_source
            and len(self.parts) == len(other.parts)
            and all(map(Part.equals_but_for_name, self.parts, other.parts))
        )


def list_parts(model: Model, length: int) -> list[Part]:
    """List the parts of a model, first to last; those that read a source before all others.

    Args:
        model: Model of any family.
        length: Positions of a row (of source and target, where there are two), 1 or more.

    Returns:
        Parts, which hold all parameters of the model.

    Raises:
        TypeError: It is not a module.
    """
    expected = "a torch.nn.Module, such as the `.model` of a loaded model,"
    require_kind("model", model, nn.Module, expected)
    return _Lister(model, length).parts()


def group_equal(parts: Iterable[Part]) -> list[list[Part]]:
    """Group parts that follow each other in one list of blocks and are equal but for their name."""
    groups: list[list[Part]] = []
    for part in parts:
        owner, _, last = part.name.rpartition(".")
        if (
            groups
            and last.isdecimal()
            and owner == groups[-1][0].name.rpartition(".")[0]
            and part.equals_but_for_name(groups[-1][0])
        ):
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def group_name(group: list[Part]) -> str:
    """Return the name of a group of parts from `group_equal`.

    >>> part = Part("blocks.0", Description("block"), (), 0, 0, 0, ())
    >>> group_name([part, Part("blocks.1", Description("block"), (), 0, 0, 0, ())])
    'blocks.0-1'
    """
    first, last = group[0].name, group[-1].name.rpartition(".")[2]
    return first if len(group) == 1 else f"{first}-{last}"


def steps_of(module: nn.Module | None) -> list[Flow]:
    """Return the data flow that a block declares; empty where its children follow each other."""
    return module.steps() if isinstance(module, Layer) else []


@dataclass
class _Lister:
    """Walks a model once and keeps which part has had which weights first."""

    model: Model
    length: int
    owners: dict[int, str] = field(default_factory=dict)

    def parts(self) -> list[Part]:
        is_double = isinstance(self.model, EncoderDecoder)
        entries = sorted(_entries(self.model, ""), key=lambda entry: _rank(*entry, is_double))
        return [
            self._top_part(name, entry, is_source=is_double and name.startswith(_SOURCE_NAMES))
            for name, entry in entries
        ]

    def _top_part(self, name: str, entry: nn.Module | nn.Parameter, *, is_source: bool) -> Part:
        if isinstance(entry, nn.Module):
            return self._part(name, entry, is_source=is_source)
        if name.rpartition(".")[2] == _OUTPUT_WEIGHT:
            return self._output(name, entry)
        tokens = Description("embedding", (describe_rows(entry, "tokens"),))
        shape = (self.length, entry.shape[1])
        return self._make(name, tokens, shape, 0, [entry], is_source=is_source)

    def _part(self, name: str, module: nn.Module, *, is_source: bool) -> Part:
        model, dim = self.model, self.model.dim
        if is_source and isinstance(model, EncoderDecoder):
            dim = model.source_dim
        description = describe(module)
        if description is None:
            return self._block(name, module, dim, is_source=is_source)
        if description.out_dim is not None:
            dim = description.out_dim
        return self._layer(name, module, description, dim, is_source=is_source)

    def _block(self, name: str, module: nn.Module, dim: int, *, is_source: bool) -> Part:
        """List the children of a module that does not describe itself."""
        parts = tuple(
            self._part(f"{name}.{path}", child, is_source=is_source)
            for path, child in _children(module)
        )
        # The name of the class in words, such as "module list".
        words = " ".join(re.findall(r"[A-Z]+[a-z0-9]*", type(module).__name__)).lower()
        return self._make(
            name,
            Description(words.removeprefix("transformer ")),
            (self.length, dim),
            sum(part.flops for part in parts),
            [*module.parameters(recurse=False)],
            module=module,
            is_source=is_source,
            parts=parts,
        )

    def _layer(
        self,
        name: str,
        module: nn.Module,
        description: Description,
        out_dim: int,
        *,
        is_source: bool,
    ) -> Part:
        """List a layer; one whose output has size 0 has no shape."""
        reads_vector = module in self.model.vector_layers()
        shape = (out_dim,) if reads_vector else (self.length, out_dim)
        flops, weights = 0, [*module.parameters()]
        if module not in self.model.unused_layers():
            flops = count_flops(module, 1 if reads_vector else self.length)
            passed = self.model.weights_passed().get(module)
            weights += [] if passed is None else [passed]
        return self._make(
            name,
            description,
            shape if out_dim else (),
            flops,
            weights,
            module=module,
            is_source=is_source,
        )

    def _output(self, name: str, weight: nn.Parameter) -> Part:
        out_dim, in_dim = weight.shape
        length = self.length if self.model.pooling() is None else 1
        bias = getattr(self.model, _OUTPUT_BIAS, None)
        return self._make(
            name,
            Description("output", (f"{in_dim:,} to {out_dim:,}",)),
            (length, out_dim) if self.model.pooling() is None else (out_dim,),
            2 * weight.numel() * length,
            [weight] if bias is None else [weight, bias],
        )

    def _make(
        self,
        name: str,
        description: Description,
        shape: tuple[int, ...],
        flops: int,
        weights: list[nn.Parameter],
        *,
        module: nn.Module | None = None,
        is_source: bool = False,
        parts: tuple[Part, ...] = (),
    ) -> Part:
        new = [weight for weight in weights if id(weight) not in self.owners]
        ties = (self.owners[id(weight)] for weight in weights if id(weight) in self.owners)
        ties = tuple(dict.fromkeys(ties))
        self.owners |= dict.fromkeys(map(id, new), name)
        weight_bytes = sum(weight.numel() * weight.element_size() for weight in new)
        return Part(
            name=name,
            description=description,
            shape=shape,
            num_parameters=sum(map(torch.numel, new)) + sum(p.num_parameters for p in parts),
            weight_bytes=weight_bytes + sum(part.weight_bytes for part in parts),
            flops=flops,
            ties=ties,
            module=module,
            is_source=is_source,
            parts=parts,
        )


def _entries(model: Model, prefix: str) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """List what a model has at its top: its weights, shared layers, and children."""
    left_out = {_OUTPUT_BIAS, _OUTPUT_WEIGHT}  # unless it maps to logits, as one part with its bias
    if isinstance(model, TextModel) and model.has_output_map:
        left_out = {_OUTPUT_BIAS}
    for name, weight in model.named_parameters(recurse=False, remove_duplicate=False):
        if name not in left_out:
            yield prefix + name, weight
    if not prefix:
        yield from _shared_layers(model)
    yield from _child_entries(model, prefix)


def _shared_layers(model: Model) -> Iterator[tuple[str, nn.Module]]:
    """List layers with weights that others hold too, each at the first of its paths."""
    paths: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if next(module.parameters(recurse=False), None) is not None:
            paths.setdefault(module, []).append(name)
    yield from ((names[0], module) for module, names in paths.items() if len(names) > 1)


def _child_entries(model: Model, prefix: str) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """List the children of a model; lists of blocks and models within it are opened."""
    for name, child in model.named_children():
        if isinstance(child, Model):
            yield from _entries(child, f"{prefix}{name}.")
        elif isinstance(child, nn.ModuleList):
            yield from ((f"{prefix}{name}.{path}", block) for path, block in child.named_children())
        elif _is_part(child):
            yield prefix + name, child


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """List the children of a block that are parts, in the order of data where it declares one."""
    if steps := steps_of(module):
        paths = dict(module.named_modules())
        children = ((step.name, paths[step.name]) for step in steps if step.name in paths)
        return [(name, child) for name, child in children if _is_part(child)]
    return [(name, child) for name, child in module.named_children() if _is_part(child)]


def _is_part(module: nn.Module) -> bool:
    return describe(module) is not None or next(module.parameters(), None) is not None


def _rank(name: str, entry: nn.Module | nn.Parameter, is_double: bool) -> tuple[bool, int]:
    """Order source before target; embeddings, maps into the blocks, blocks, others, the output.

    What reads the output's logits is last.

    Returns:
        A key to sort by.
    """
    last = name.rpartition(".")[2]
    rank = next((rank for rank, has_rank in _RANKS if has_rank(last, entry)), _RANK_OF_OTHERS)
    return is_double and not name.startswith(_SOURCE_NAMES), rank


def _is_embedding(_last: str, entry: nn.Module | nn.Parameter) -> bool:
    return isinstance(entry, nn.Parameter) or (isinstance(entry, Layer) and entry.is_embedding)


def _leads_in(last: str, entry: nn.Module | nn.Parameter) -> bool:
    """Return whether a layer maps into the blocks, or gives nothing to what follows."""
    description = describe(entry) if isinstance(entry, nn.Module) else None
    return last.endswith("_input") or (description is not None and description.out_dim == 0)


_RANK_OF_OTHERS = 3
_RANKS: tuple[tuple[int, Callable[[str, nn.Module | nn.Parameter], bool]], ...] = (
    (4, lambda last, _: last == _OUTPUT_WEIGHT),
    (5, lambda _, entry: isinstance(entry, Layer) and entry.reads_logits),
    (0, _is_embedding),
    (1, _leads_in),
    (2, lambda last, _: last.isdecimal()),
)
"""Ranks, and which entries have them, by the last part of their name; the first that fits."""
