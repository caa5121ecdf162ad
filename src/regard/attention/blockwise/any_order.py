"""Attention block by block: memory linear in the length, every derivative exact.

A `torch.autograd.Function` that saves its inputs only. Its value is a sum over groups of blocks
(`schedule.py`), each computed by a plain differentiable function of the blocks. The vector-Jacobian
product of a block function is again such a function, so the backward pass is the *same* Function
with another block function, and so is its derivative, to any order; each recomputes block by block.
Softmax over a block of keys returns its logarithm of the sum of exponentials too, by which the
terms of a pattern, computed apart, are combined (Milakov & Gimelshein 2018, "Online normalizer
calculation for softmax"; Rabe & Staats 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from regard.attention.batched_cotangents import are_batched, pull_back_one_by_one
from regard.attention.blockwise.schedule import BlockGroup
from regard.attention.blockwise.tiling import (
    AttentionShape,
    BlockSlice,
    PerHead,
    TileSpec,
    spec_of_derivative,
)

BlockFunction = Callable[[BlockSlice, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""Maps blocks of the inputs to blocks of the outputs."""


@runtime_checkable
class HasVjp(Protocol):
    """A block function with a derivative in closed form."""

    def vjp(self, indices: tuple[int, ...]) -> BlockFunction:
        """Return the block function of inputs and output cotangents to cotangents of some inputs.

        Args:
            indices: Indices of these inputs.
        """
        ...


@dataclass(frozen=True, eq=False)
class Operation:
    """A sum over blocks.

    Args:
        shape: Sizes of the whole.
        groups: The blocks.
        function: What is computed of each.
        inputs: How each input is cut.
        outputs: How each output is put together.
        fast: First-order shortcut, where there is one.
    """

    shape: AttentionShape
    groups: tuple[BlockGroup, ...]
    function: BlockFunction
    inputs: tuple[TileSpec, ...]
    outputs: tuple[TileSpec, ...]
    fast: Shortcut | None = None

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs ``[batch, heads, length, dim]``; differentiable to any order."""
        return _Blockwise.apply(self, *tensors)

    def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the outputs ``[batch, heads, length, dim]``, one group after the other."""
        # Blocks of several heads go together, but not what differs by head, such as a bias.
        differs = any(isinstance(spec, PerHead) and spec.num_heads > 1 for spec in self.inputs)
        slices = self.shape.slices(self.groups, tensors[0].device, fold_heads=not differs)
        totals: list[Tensor] = []
        results: tuple[Tensor, ...] = ()
        for block_slice in slices:
            blocks = tuple(
                s.gather(t, block_slice) for s, t in zip(self.inputs, tensors, strict=True)
            )
            results = self.function(block_slice, blocks)
            totals = totals or [s.allocate(b) for s, b in zip(self.outputs, results, strict=True)]
            for spec, total, block in zip(self.outputs, totals, results, strict=True):
                spec.scatter(total, block, block_slice)
        assert totals  # there is a group
        return tuple(t.to(block.dtype) for t, block in zip(totals, results, strict=True))

    def vjp(self, indices: tuple[int, ...]) -> Operation:
        """Return the operation of inputs and output cotangents to cotangents of some inputs."""
        function, count = self.function, len(self.inputs)

        def pull_back(block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            _, pull = _vjp(function, block_slice, blocks[:count], indices)
            return pull(blocks[count:])

        return Operation(
            shape=self.shape,
            groups=self.groups,
            function=function.vjp(indices) if isinstance(function, HasVjp) else pull_back,
            inputs=self.inputs + tuple(map(spec_of_derivative, self.outputs)),
            outputs=tuple(self.inputs[i] for i in indices),
            fast=self.fast.vjp(indices) if isinstance(self.fast, ShortcutWithVjp) else None,
        )

    def jvp(self, indices: tuple[int, ...]) -> Operation:
        """Return the operation of inputs and tangents of some of them to the output tangents.

        The product with the Jacobian is the vector-Jacobian product of the (linear) map from
        cotangents to the vector-Jacobian product: ``torch.func.jvp`` cannot nest here.
        """
        function, count = self.function, len(self.inputs)

        def push_forward(block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            values, pull = _vjp(function, block_slice, blocks[:count], indices)
            _, push = torch.func.vjp(pull, tuple(torch.zeros_like(value) for value in values))[:2]
            return push(blocks[count:])[0]

        return Operation(
            shape=self.shape,
            groups=self.groups,
            function=push_forward,
            inputs=self.inputs + tuple(self.inputs[i] for i in indices),
            outputs=tuple(map(spec_of_derivative, self.outputs)),
        )


def _vjp(
    function: BlockFunction,
    block_slice: BlockSlice,
    blocks: tuple[Tensor, ...],
    indices: tuple[int, ...],
) -> tuple[tuple[Tensor, ...], Callable[..., tuple[Tensor, ...]]]:
    """Compute a block function of ``[blocks, heads, width, dim]`` and its pull-back to some."""

    def of_some(*inputs: Tensor) -> tuple[Tensor, ...]:
        replaced = list(blocks)
        for i, block in zip(indices, inputs, strict=True):
            replaced[i] = block
        return function(block_slice, tuple(replaced))

    values, pull = torch.func.vjp(of_some, *(blocks[i] for i in indices))[:2]
    return values, pull


class Shortcut(Protocol):
    """Computes value and first derivative with fewer operations and no graph."""

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the operation's outputs, ``[batch, heads, queries, dim]`` each."""
        ...

    def backward(
        self,
        operation: Operation,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor | None, ...]:
        """Compute the cotangents of the first inputs; None for those without derivative.

        Args:
            operation: What is differentiated.
            tensors: Its inputs, q, k and v first, ``[batch, heads, length, dim]``.
            outputs: What it computed.
            cotangents: Those of the outputs.
        """
        ...


@runtime_checkable
class ShortcutWithVjp(Shortcut, Protocol):
    """A shortcut whose vector-Jacobian product has one, too."""

    def vjp(self, indices: tuple[int, ...]) -> Shortcut:
        """Return the shortcut of what `Operation.vjp` returns.

        Args:
            indices: Indices of the inputs whose cotangents it computes.
        """
        ...


class _Blockwise(torch.autograd.Function):
    """Runs an `Operation`; its derivatives are derived operations.

    The tensors are q, k and v, ``[batch, heads, length, dim]``, then those of score, bias and mask.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(operation: Operation, *tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(tensors[0].device.type, enabled=False):
            if operation.fast is not None:
                return operation.fast.forward(operation, tensors)
            return operation.run(tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        operation, *tensors = inputs
        ctx.operation = operation
        ctx.num_inputs = len(tensors)
        # Only the shortcut needs the outputs; derived operations do without. Both modes save the
        # same, as `torch.func.jvp` of a `torch.vmap` requires.
        saved = (*tensors, *(output if operation.fast is not None else ()))
        ctx.save_for_forward(*saved)
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        if are_batched(cotangents):
            return pull_back_one_by_one(lambda row: _Blockwise.backward(ctx, *row), cotangents)
        operation: Operation = ctx.operation
        saved = ctx.saved_tensors
        tensors, outputs = saved[: ctx.num_inputs], saved[ctx.num_inputs :]
        indices = tuple(i for i, needs in enumerate(ctx.needs_input_grad[1:]) if needs)
        if operation.fast is not None and not torch.is_grad_enabled():
            with torch.autocast(tensors[0].device.type, enabled=False):
                of_inputs = operation.fast.backward(operation, tensors, outputs, cotangents)
            gradients = {i: of_inputs[i] for i in indices}
        else:
            products = operation.vjp(indices)(*tensors, *cotangents)
            gradients = dict(zip(indices, products, strict=True))
        return (None, *(gradients.get(i) for i in range(ctx.num_inputs)))

    @staticmethod
    def jvp(  # pyright: ignore[reportIncompatibleMethodOverride] - the stub forgets ctx
        ctx: Any, _: None, *tangents: Tensor | None
    ) -> tuple[Tensor, ...]:
        operation: Operation = ctx.operation
        tensors = ctx.saved_tensors
        by_index = {i: tangent for i, tangent in enumerate(tangents) if tangent is not None}
        return operation.jvp(tuple(by_index))(*tensors[: ctx.num_inputs], *by_index.values())
