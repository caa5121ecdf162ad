"""What every layer says about itself: what it is, what it costs, how data passes through it.

The layer table and the architecture diagram (`regard.explain`) join these answers and know no layer
by name, so a new layer needs no change there. A module of another library is described by its class
name and its children.

A product of matrices counts two operations for every pair of numbers multiplied; so does a
convolution. Attention counts the pairs that its pattern allows, exactly, even where the method that
computes them also computes some that it hides. Looking up rows of a table counts nothing, nor do
norms, activations, softmax and sums, which are of lower order.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from regard.attention import Pattern, format_pattern
from regard.errors import ConfigError

INPUT = "input"
"""In `Flow.inputs`: what the block reads."""

EMBEDDINGS = "embeddings"
"""In `Flow.inputs`: the embeddings of the tokens on the side of the model that the block is in."""


class Description(NamedTuple):
    """What a layer is.

    Args:
        kind: In a word or two, such as ``self-attention``.
        facts: Sizes and settings, each short enough for a line.
        out_dim: Size of the last axis of its output; None is the size of the model, and 0 means
            that the layer only holds weights that others read.
    """

    kind: str
    facts: tuple[str, ...] = ()
    out_dim: int | None = None


class Flow(NamedTuple):
    """One step of the data flow through a block: a child, or a sum of several inputs.

    Args:
        name: Path of the child; a sum has any other name.
        inputs: Names of the steps that it reads, `INPUT` or `EMBEDDINGS`; two or more are added.
    """

    name: str
    inputs: tuple[str, ...]


class Layer(nn.Module):
    """The base of the layers: answers that hold where a layer does not give its own."""

    is_embedding = False
    """Whether it maps the input of a model to states."""

    reads_source = False
    """Whether it attends to the source of an encoder-decoder."""

    reads_last_step = False
    """Whether it reads what the step before computed, instead of the layer before it."""

    reads_logits = False
    """Whether it reads the output of the model's map to logits and gives another."""

    entrywise: ClassVar[tuple[str, ...]] = ()
    """Names of its own parameters of two axes that are no matrices, such as biases of heads."""

    has_one_graph = True
    """Whether ``torch.compile`` traces it once for all lengths, and not position by position."""

    reads_weights_of_maps = False
    """Whether it takes the weights of its linear maps instead of calling them."""

    def describe(self) -> Description | None:
        """Return what the layer is; None where its class name and its children say enough."""
        return None

    def flops(self, length: int) -> int:
        """Count the operations of a forward pass of one row.

        Args:
            length: Positions of the row (of queries and of keys), 1 or more.

        Returns:
            Operations; those of the children unless a layer adds its own.
        """
        return sum(count_flops(child, length) for child in self.children())

    def steps(self) -> list[Flow]:
        """Return the data flow in order; empty where each child reads the one before it."""
        return []


def describe(module: nn.Module) -> Description | None:
    """Return what a module is; None where only its class name and its children can say.

    >>> describe(nn.Linear(8, 4))
    Description(kind='linear', facts=('8 to 4',), out_dim=4)
    """
    if isinstance(module, Layer):
        return module.describe()
    return describe_linear(module.weight) if isinstance(module, nn.Linear) else None


def count_flops(module: nn.Module, length: int) -> int:
    """Return the operations of a forward pass of one row of `length` positions through a module.

    >>> count_flops(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), 10)
    640
    """
    if isinstance(module, Layer):
        return module.flops(length)
    own = 2 * module.weight.numel() * length if isinstance(module, nn.Linear) else 0
    return own + sum(count_flops(child, length) for child in module.children())


def describe_linear(weight: Tensor) -> Description:
    """Describe a linear map by its weight, ``[out_dim, in_dim]``."""
    out_dim, in_dim = weight.shape
    return Description("linear", (f"{in_dim:,} to {out_dim:,}",), out_dim=out_dim)


def describe_rows(table: nn.Parameter, rows: str) -> str:
    """Describe a table ``[rows, dim]``, such as "50 tokens of 32" where its `rows` are tokens."""
    num_rows, dim = table.shape
    return f"{num_rows:,} {rows} of {dim:,}"


def describe_pattern(pattern: Pattern) -> str:
    """Write a pattern as settings have it, or as Python does where it has no such form."""
    try:
        return f"pattern {format_pattern(pattern)}"
    except ConfigError:
        return f"pattern {pattern!r}"
