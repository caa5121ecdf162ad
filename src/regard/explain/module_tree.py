"""The parts of a built model in the order in which data passes them, with sizes and costs.

Nothing here knows a family: parts, their order and their costs follow from the module tree, by
`describe` and `flops`. Lists of blocks fall into their blocks, and a block into its layers; a layer
that `describe` knows is a part as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from regard.explain.flops import Sizes, forward_flops
from regard.explain.layer_descriptions import Description, class_words, describe, describe_table
from regard.layers.embedding import SegmentedEmbedding, TokenEmbedding
from regard.layers.linear import Linear
from regard.layers.masked_token_head import MaskedTokenHead
from regard.layers.patch_embedding import InputEmbedding
from regard.layers.relative_attention import RelativePositions
from regard.layers.transformer_block import ResidualConnection
from regard.models import (
    Classifier,
    Encoder,
    EncoderDecoder,
    EncoderDecoderModel,
    Model,
    TextModel,
    Vit,
)

_OUTPUT = ("output_weight", "output_bias")


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Args:
        name: Its place in the model, as in the names of its weights.
        kind: What it is, in a word or two.
        facts: Its sizes and settings, each short enough for a line.
        shape: Of its output for one row, without the batch; empty where it has none of its own.
        num_parameters: Its own; a table that an earlier part has is not counted again.
        weight_bytes: Of these.
        flops: Operations of a forward pass of one row.
        ties: Parts whose weights it shares.
        module: What it is made of; None for a bare table or the output.
        is_source: Whether it reads the source of an encoder-decoder.
        inner: Its parts, in the order of data.
    """

    name: str
    kind: str
    facts: tuple[str, ...]
    shape: tuple[int, ...]
    num_parameters: int
    weight_bytes: int
    flops: int
    ties: tuple[str, ...]
    module: nn.Module | None
    is_source: bool = False
    inner: tuple[Part, ...] = ()

    def alike(self) -> tuple[object, ...]:
        """Tell all but the place: equal for parts that do the same with weights of their own."""
        own = (self.kind, self.facts, self.shape, self.num_parameters, self.flops, self.ties)
        return (*own, self.is_source, tuple(part.alike() for part in self.inner))


def list_parts(model: Model, length: int) -> list[Part]:
    """List the parts of a model, first to last; those that read a source before all others.

    Args:
        model: Of any family.
        length: Positions of a row (of source and target, where there are two), 1 or more.
    """
    return _Lister(model, Sizes(length=length, dim=model.dim)).parts()


def fold(parts: Iterable[Part]) -> list[list[Part]]:
    """Put parts together that stand in one list of the model, side by side, and are alike."""
    runs: list[list[Part]] = []
    for part in parts:
        if runs and _go_together(runs[-1][0], part):
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _go_together(one: Part, other: Part) -> bool:
    is_one_list = _list_of(one) != "" and _list_of(one) == _list_of(other)
    return is_one_list and one.alike() == other.alike()


def run_name(run: list[Part]) -> str:
    """Name parts put together by `fold`.

    >>> part = Part("blocks.0", "block", (), (), 0, 0, 0, (), None)
    >>> run_name([part, Part("blocks.1", "block", (), (), 0, 0, 0, (), None)])
    'blocks.0-1'
    """
    first, last = run[0].name, run[-1].name.rpartition(".")[2]
    return first if len(run) == 1 else f"{first}-{last}"


def sublayers(module: nn.Module) -> list[tuple[str, str, ResidualConnection]]:
    """Pair the layers of a block with their residual connections.

    Returns:
        Name of the layer, name of the connection and the connection, in the order of data; empty
        for a module that has not one connection for each layer.
    """
    children = list(module.named_children())
    residuals = [(name, child) for name, child in children if isinstance(child, ResidualConnection)]
    layers = [name for name, child in children if not isinstance(child, ResidualConnection)]
    if len(residuals) != len(layers):
        return []
    return [(layer, *found) for layer, found in zip(layers, residuals, strict=True)]


def is_aside(model: Model, module: nn.Module | None) -> bool:
    """Tell whether a forward pass leaves a part of an encoder out: a head, or the pooler."""
    if module is None:
        return False
    if isinstance(model, Classifier):
        encoder = model.encoder
        return module is encoder.head or (
            module is encoder.pooler and encoder.config.pooling != "first"
        )
    return isinstance(model, Encoder) and module is model.pooler


@dataclass
class _Lister:
    """Walks a model once; keeps which part has had which weights first."""

    model: Any
    sizes: Sizes
    owners: dict[int, str] = field(default_factory=dict)

    def parts(self) -> list[Part]:
        is_double = isinstance(self.model, EncoderDecoder)
        entries = sorted(_entries(self.model, ""), key=lambda entry: _rank(entry, is_double))
        return [self._top(name, entry, is_double) for name, entry in entries]

    def _top(self, name: str, entry: nn.Module | nn.Parameter, is_double: bool) -> Part:
        if isinstance(entry, nn.Module):
            return self._part(name, entry, is_source=is_double and _reads_source(name))
        if name.rpartition(".")[2] == _OUTPUT[0]:
            return self._output(name)
        shape = (self.sizes.length, entry.shape[1])
        is_source = is_double and _reads_source(name)
        return self._make(name, describe_table(entry), shape, 0, [entry], is_source=is_source)

    def _part(self, name: str, module: nn.Module, *, is_source: bool) -> Part:
        found = describe(module)
        if found is None:
            return self._composite(name, module, is_source=is_source)
        weights = list(module.parameters())
        if isinstance(module, MaskedTokenHead) and not is_aside(self.model, module):
            weights.append(self.model.output_weight)  # it multiplies by the table of tokens
        shape = self._shape(module, is_source=is_source)
        return self._make(
            name, found, shape, self._flops(module), weights, module=module, is_source=is_source
        )

    def _composite(self, name: str, module: nn.Module, *, is_source: bool) -> Part:
        inner = tuple(
            self._part(f"{name}.{path}", child, is_source=is_source)
            for path, child in _in_order(module)
        )
        return self._make(
            name,
            Description(class_words(module)),
            (self.sizes.length, self._dim(is_source=is_source)),
            sum(part.flops for part in inner),
            list(module.parameters(recurse=False)),
            module=module,
            is_source=is_source,
            inner=inner,
        )

    def _make(
        self,
        name: str,
        found: Description,
        shape: tuple[int, ...],
        flops: int,
        weights: list[nn.Parameter],
        *,
        module: nn.Module | None = None,
        is_source: bool = False,
        inner: tuple[Part, ...] = (),
    ) -> Part:
        new = [weight for weight in weights if id(weight) not in self.owners]
        ties = (self.owners[id(weight)] for weight in weights if id(weight) in self.owners)
        ties = tuple(dict.fromkeys(ties))
        self.owners |= {id(weight): name for weight in new}
        numel, size = _sizes_of(new)
        return Part(
            name=name,
            kind=found.kind,
            facts=found.facts,
            shape=shape,
            num_parameters=numel + sum(part.num_parameters for part in inner),
            weight_bytes=size + sum(part.weight_bytes for part in inner),
            flops=flops,
            ties=ties,
            module=module,
            is_source=is_source,
            inner=inner,
        )

    def _output(self, name: str) -> Part:
        weight = self.model.output_weight
        length = 1 if isinstance(self.model, Classifier) else self.sizes.length
        out_dim, in_dim = weight.shape
        bias = getattr(self.model, _OUTPUT[1], None)
        return self._make(
            name,
            Description("output", (f"{in_dim:,} to {out_dim:,}",)),
            (out_dim,) if isinstance(self.model, Classifier) else (length, out_dim),
            2 * weight.numel() * length,
            [weight] if bias is None else [weight, bias],
        )

    def _flops(self, module: nn.Module) -> int:
        if is_aside(self.model, module):
            return 0
        if isinstance(self.model, Classifier) and module is self.model.encoder.pooler:
            return forward_flops(module, _one_position(self.sizes))
        if self._reads_one_vector(module):
            return forward_flops(module, _one_position(self.sizes))
        flops = forward_flops(module, self.sizes)
        if isinstance(module, MaskedTokenHead):
            flops += 2 * self.model.output_weight.numel() * self.sizes.length
        return flops

    def _dim(self, *, is_source: bool) -> int:
        """Tell the size of the states on one side."""
        if is_source and isinstance(self.model, EncoderDecoderModel):
            return self.model.encoder.dim
        return self.sizes.dim

    def _shape(self, module: nn.Module, *, is_source: bool) -> tuple[int, ...]:
        """Tell the shape of a layer's output for one row."""
        encoder = self.model.encoder if isinstance(self.model, Classifier) else self.model
        if isinstance(module, RelativePositions):
            return ()
        if isinstance(encoder, Encoder) and module is encoder.pooler:
            return (encoder.dim,)
        if isinstance(module, MaskedTokenHead):
            return self.sizes.length, encoder.vocab_size
        if isinstance(module, Linear | nn.Linear) and self._reads_one_vector(module):
            return (module.weight.shape[0],)
        if isinstance(module, Linear | nn.Linear):
            return self.sizes.length, module.weight.shape[0]
        return self.sizes.length, self._dim(is_source=is_source)

    def _reads_one_vector(self, module: nn.Module) -> bool:
        """Tell whether a part of a model of images or series reads the vector of an input."""
        model = self.model
        return isinstance(model, Vit) and module in (model.pooler, model.head)


def _one_position(sizes: Sizes) -> Sizes:
    return Sizes(length=1, dim=sizes.dim)


def _sizes_of(weights: list[nn.Parameter]) -> tuple[int, int]:
    """Count the numbers of weights, and their bytes."""
    numbers = [weight.numel() for weight in weights]
    return sum(numbers), sum(w.numel() * w.element_size() for w in weights)


def _entries(model: Model, prefix: str) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """List what a model has at its top, lists of blocks and models within taken apart."""
    for name, weight in model.named_parameters(recurse=False, remove_duplicate=False):
        is_output = name in _OUTPUT
        if name != _OUTPUT[1] and not (is_output and isinstance(model, Encoder)):
            yield prefix + name, weight
    yield from () if prefix else _shared_modules(model)
    for name, child in model.named_children():
        if isinstance(child, TextModel):
            yield from _entries(child, f"{prefix}{name}.")
        elif isinstance(child, nn.ModuleList):
            yield from ((f"{prefix}{name}.{path}", block) for path, block in child.named_children())
        elif _is_part(child):
            yield prefix + name, child


def _shared_modules(model: Model) -> Iterator[tuple[str, nn.Module]]:
    """List modules that hold weights and stand at several places, each at its first."""
    places: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if next(module.parameters(recurse=False), None) is not None:
            places.setdefault(id(module), []).append((name, module))
    yield from (found[0] for found in places.values() if len(found) > 1)


def _is_part(module: nn.Module) -> bool:
    return describe(module) is not None or next(module.parameters(), None) is not None


def _rank(entry: tuple[str, nn.Module | nn.Parameter], is_double: bool) -> tuple[bool, int]:
    """Order source before target, embeddings first, maps into the blocks, blocks, all else."""
    name, module = entry
    last = name.rpartition(".")[2]
    if last == _OUTPUT[0]:
        rank = 4
    elif isinstance(module, nn.Parameter | TokenEmbedding | SegmentedEmbedding | InputEmbedding):
        rank = 0
    elif last.endswith("_input") or isinstance(module, RelativePositions):
        rank = 1
    else:
        rank = 2 if last.isdecimal() else 3
    return is_double and not _reads_source(name), rank


def _reads_source(name: str) -> bool:
    return name.startswith(("source", "encoder"))


def _list_of(part: Part) -> str:
    """Name the list of blocks that a part stands in; empty where it stands alone."""
    owner, _, last = part.name.rpartition(".")
    return owner if last.isdecimal() else ""


def _in_order(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """List the parts of a block in the order of data: norms before or after what they go with."""
    pairs = sublayers(module)
    for layer, connection, residual in pairs:
        norm = (f"{connection}.norm", residual.norm)
        both = [norm, (layer, module.get_submodule(layer))]
        yield from both if residual.is_pre else reversed(both)
    if not pairs:
        yield from ((name, child) for name, child in module.named_children() if _is_part(child))
