"""Attention block by block: memory linear in the length, every derivative exact.

A `torch.autograd.Function` that saves its inputs only. Its value is a sum over groups of blocks
(`schedule.py`), each computed by a plain differentiable function of the blocks. The vector-Jacobian
product of a block function is again such a function, so the backward pass is the *same* Function
with another block function, and so is its derivative, to any order; each recomputes block by block.
Softmax over a block of keys keeps its logarithm of the sum of exponentials, by which terms of a
pattern that were computed apart are joined (Milakov & Gimelshein 2018, "Online normalizer
calculation for softmax"; Rabe & Staats 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from regard.attention.blockwise.schedule import BlockGroup
from regard.attention.blockwise.tiling import AttentionShape, BlockSlice, PerHead, TileSpec

BlockFunction = Callable[[BlockSlice, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""Maps blocks of the inputs to blocks of the outputs."""


@runtime_checkable
class HasVjp(Protocol):
    """A block function that knows its derivative in closed form."""

    def vjp(self, wanted: tuple[int, ...]) -> BlockFunction:
        """Give the block function of its inputs and output cotangents to cotangents of some."""
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
        """Compute the outputs; differentiable to any order."""
        return _Blockwise.apply(self, *tensors)

    @property
    def folds_heads(self) -> bool:
        """Whether blocks of several heads fit together: what a head has learned does not."""
        return not any(isinstance(spec, PerHead) and spec.num_heads > 1 for spec in self.inputs)

    def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the outputs, one group after the other."""
        totals: list[Tensor] | None = None
        dtypes: list[torch.dtype] = []
        for block_slice in self._slices(tensors[0].device):
            blocks = tuple(
                s.gather(t, block_slice) for s, t in zip(self.inputs, tensors, strict=True)
            )
            found = self.function(block_slice, blocks)
            if totals is None:
                dtypes = [block.dtype for block in found]
                totals = [s.allocate(b) for s, b in zip(self.outputs, found, strict=True)]
            for spec, total, block in zip(self.outputs, totals, found, strict=True):
                spec.scatter(total, block, block_slice)
        assert totals is not None
        return tuple(t.to(dtype) for t, dtype in zip(totals, dtypes, strict=True))

    def _slices(self, device: torch.device) -> Iterator[BlockSlice]:
        return self.shape.slices(self.groups, device, fold_heads=self.folds_heads)

    def vjp(self, wanted: tuple[int, ...]) -> Operation:
        """Derive the operation of inputs and output cotangents to the cotangents of some inputs."""
        closed = cast(object, self.function)
        derived = closed.vjp(wanted) if isinstance(closed, HasVjp) else None
        return Operation(
            shape=self.shape,
            groups=self.groups,
            function=derived or _pull_back(self.function, len(self.inputs), wanted),
            inputs=self.inputs + self.outputs,
            outputs=tuple(self.inputs[i] for i in wanted),
        )

    def jvp(self, wanted: tuple[int, ...]) -> Operation:
        """Derive the operation of inputs and tangents of some of them to the output tangents.

        The product with the Jacobian is the vector-Jacobian product of the (linear) map from
        cotangents to the vector-Jacobian product: ``torch.func.jvp`` cannot nest here.
        """
        count, function = len(self.inputs), self.function

        def push_forward(block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            primals, tangents = blocks[:count], blocks[count:]
            values, pull = torch.func.vjp(
                _of_some(function, block_slice, primals, wanted), *(primals[i] for i in wanted)
            )[:2]
            _, push = torch.func.vjp(pull, tuple(torch.zeros_like(value) for value in values))[:2]
            return push(tuple(tangents))[0]

        return Operation(
            shape=self.shape,
            groups=self.groups,
            function=push_forward,
            inputs=self.inputs + tuple(self.inputs[i] for i in wanted),
            outputs=self.outputs,
        )


def _pull_back(function: BlockFunction, count: int, wanted: tuple[int, ...]) -> BlockFunction:
    """Differentiate a block function of `count` blocks automatically."""

    def pull_back(block_slice: BlockSlice, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        primals, cotangents = blocks[:count], blocks[count:]
        _, pull = torch.func.vjp(
            _of_some(function, block_slice, primals, wanted), *(primals[i] for i in wanted)
        )[:2]
        return pull(tuple(cotangents))

    return pull_back


def _of_some(
    function: BlockFunction,
    block_slice: BlockSlice,
    blocks: tuple[Tensor, ...],
    wanted: tuple[int, ...],
) -> Callable[..., tuple[Tensor, ...]]:
    """View a block function as one of some of its blocks."""

    def partial(*some: Tensor) -> tuple[Tensor, ...]:
        replaced = list(blocks)
        for i, block in zip(wanted, some, strict=True):
            replaced[i] = block
        return function(block_slice, tuple(replaced))

    return partial


class Shortcut(Protocol):
    """Computes value and first derivative with fewer operations and no graph."""

    def forward(self, operation: Operation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute what the operation does."""
        ...

    def backward(
        self,
        operation: Operation,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Compute the cotangents of the first three inputs."""
        ...


class _Blockwise(torch.autograd.Function):
    """Runs an `Operation`; its derivatives are derived operations."""

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
        ctx.save_for_forward(*tensors)
        # Only the shortcut needs the outputs; derived operations do without.
        ctx.save_for_backward(*tensors, *(output if operation.fast is not None else ()))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        operation: Operation = ctx.operation
        saved = ctx.saved_tensors
        tensors, outputs = saved[: ctx.num_inputs], saved[ctx.num_inputs :]
        wanted = tuple(i for i, needs in enumerate(ctx.needs_input_grad[1:]) if needs)
        grads: list[Tensor | None] = [None] * (1 + ctx.num_inputs)
        if operation.fast is not None and not torch.is_grad_enabled():
            with torch.autocast(tensors[0].device.type, enabled=False):
                found = operation.fast.backward(operation, tensors, outputs, cotangents)
            found = tuple(found[i] for i in wanted)
        else:
            found = operation.vjp(wanted)(*tensors, *cotangents)
        for i, grad in zip(wanted, found, strict=True):
            grads[i + 1] = grad
        return tuple(grads)

    @staticmethod
    def jvp(  # pyright: ignore[reportIncompatibleMethodOverride] - the stub forgets ctx
        ctx: Any, _: None, *tangents: Tensor | None
    ) -> tuple[Tensor, ...]:
        operation: Operation = ctx.operation
        tensors = ctx.saved_tensors
        wanted = tuple(i for i, tangent in enumerate(tangents) if tangent is not None)
        given = [tangent for tangent in tangents if tangent is not None]
        return operation.jvp(wanted)(*tensors[: ctx.num_inputs], *given)
