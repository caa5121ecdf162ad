"""The gradient of a batch that several processes compute together.

Every process computes the losses of its shards (`regard.training.shards`), each the mean over its
tokens, and weights them by their number of tokens. The sum over all shards, divided by all tokens,
is the gradient of the mean loss of the whole batch.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from regard.layers.dropout import masks_by_row
from regard.layers.transformer_block import DecoderBlock, TransformerBlock
from regard.optim.foreach import foreach_mul_
from regard.training.distribution import World
from regard.training.shards import Shard, ShardedBatch, seed_shard
from regard.training.train_step import Loss, LossFunction
from regard.training.tree_sum import TreeSum


class _WeightedLoss(nn.Module):
    """The loss of a shard as the forward pass of a module, for PyTorch's parallel wrappers.

    Args:
        model: The model.
        loss_function: Computes the loss of a batch.
    """

    def __init__(self, model: nn.Module, loss_function: LossFunction) -> None:
        super().__init__()
        self.model = model
        self._loss_function = loss_function

    def forward(self, shard: Shard) -> tuple[Tensor, Tensor]:
        """Compute the loss of a shard.

        Args:
            shard: To be computed.

        Returns:
            The loss times the number of tokens, differentiable; and in float64 that sum, the sum of
            the cross-entropy, and the number of tokens, ``[3]``.
        """
        with masks_by_row(shard.rows):
            loss = self._loss_function(self.model, shard.batch)
        num_tokens = loss.num_tokens if shard.is_counted else 0
        total = loss.loss * num_tokens
        means = torch.stack([loss.loss.detach().double(), loss.nll.detach().double()])
        count = means.new_full((1,), num_tokens)  # which waits for no device
        return total, torch.cat([means * num_tokens, count])


class _AveragedGradient:
    """A gradient that a wrapper of PyTorch averages over the processes.

    Args:
        parameters: That are trained.
        world: The processes.
    """

    sum_seconds = 0.0

    def __init__(self, parameters: list[nn.Parameter], world: World) -> None:
        self._parameters, self._world = parameters, world

    def __call__(self, batch: ShardedBatch) -> Loss:
        """Compute the loss of a batch, and its gradient into ``grad`` of the parameters.

        Args:
            batch: This process's shards.

        Returns:
            The loss of the shards of all processes.
        """
        seed = torch.default_generator.initial_seed()
        sums = _zeros(self._parameters)
        for parameter in self._parameters:
            parameter.grad = None
        for number, shard in enumerate(batch.shards, 1):
            seed_shard(seed, shard)
            sums += self._backward(shard, is_last=number == len(batch.shards))
        seed_shard(seed)
        self._world.sum(sums)
        loss = _loss(sums)
        _scale(self._parameters, self._world.size, loss.num_tokens)  # they are means over processes
        return loss

    def _backward(self, shard: Shard, *, is_last: bool) -> Tensor:
        """Add the gradient of a shard; return its sums as `_WeightedLoss` does."""
        raise NotImplementedError


class DdpGradient(_AveragedGradient):
    """The gradient of a model of which every process has a copy (DistributedDataParallel).

    Args:
        model: The model.
        loss_function: Computes the loss of a batch.
        world: The processes.
    """

    def __init__(self, model: nn.Module, loss_function: LossFunction, world: World) -> None:
        super().__init__(_trained(model), world)
        self.loss_function = loss_function
        module = _WeightedLoss(model, loss_function)
        # Where every parameter is used, DistributedDataParallel writes that it need not look for
        # those that are not; but another batch may need fewer.
        module.unused = nn.Parameter(torch.zeros((), device=self._parameters[0].device))
        self._module = DistributedDataParallel(
            module,
            process_group=world.group_of(self._parameters[0]),
            find_unused_parameters=True,  # such as a part of the model that a batch does not need
            gradient_as_bucket_view=True,
        )

    def _backward(self, shard: Shard, *, is_last: bool) -> Tensor:
        with nullcontext() if is_last else self._module.no_sync():
            total, sums = self._module(shard)
            total.backward()
        return sums


class FsdpGradient(_AveragedGradient):
    """The gradient of a model of which every process holds a part (FSDP2, ``fully_shard``).

    The whole weights of a block are gathered for its forward and its backward pass. The model's
    parameters become `DTensor`; build its optimizer and its average afterwards.

    Args:
        model: The model.
        loss_function: Computes the loss of a batch.
        world: The processes, which all compute the same number of shards.
        dtype: Type of the weights in products.
    """

    def __init__(
        self, model: nn.Module, loss_function: LossFunction, world: World, dtype: torch.dtype
    ) -> None:
        # They take seconds to load, with SymPy, and only a sharded run needs them.
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import (
            MixedPrecisionPolicy,
            fully_shard,
            register_fsdp_forward_method,
        )

        first = next(model.parameters())
        group = world.group_of(first)
        assert group is not None
        mesh = DeviceMesh.from_group(group, first.device.type)
        policy = MixedPrecisionPolicy(
            param_dtype=None if dtype == first.dtype else dtype,
            reduce_dtype=first.dtype,
            cast_forward_inputs=False,
        )
        for module in model.modules():
            if isinstance(module, DecoderBlock):  # it is used before its block
                fully_shard(module.cross_attention, mesh=mesh, mp_policy=policy)
                register_fsdp_forward_method(module.cross_attention, "project")
            if isinstance(module, DecoderBlock | TransformerBlock):
                fully_shard(module, mesh=mesh, mp_policy=policy)
        self._module = _WeightedLoss(model, loss_function)
        fully_shard(self._module, mesh=mesh, mp_policy=policy)
        super().__init__(_trained(model), world)

    def loss_function(self, model: Any, batch: Any) -> Loss:  # noqa: ARG002 - it has the model
        """Compute the loss of a batch; all processes do so at the same time."""
        total, nll, count = self._module(Shard(0, batch))[1].unbind()
        return Loss(loss=total / count, nll=nll / count, num_tokens=int(count))

    def _backward(self, shard: Shard, *, is_last: bool) -> Tensor:  # noqa: ARG002 - each is summed
        with warnings.catch_warnings():
            # Keys and values are views of one projection; nothing changes them in place.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            total, sums = self._module(shard)
        total.backward()
        return sums


class OrderedGradient:
    """The gradient of a model of which every process has a copy, with the same bits for any number.

    Args:
        model: The model.
        loss_function: Computes the loss of a batch.
        world: The processes.
        num_shards: Shards of a batch.
    """

    def __init__(
        self, model: nn.Module, loss_function: LossFunction, world: World, num_shards: int
    ) -> None:
        self._parameters, self.loss_function = _trained(model), loss_function
        self._module = _WeightedLoss(model, loss_function)
        self._tree = TreeSum(world, num_shards)
        self.sum_seconds = 0.0

    def __call__(self, batch: ShardedBatch) -> Loss:
        """Compute the loss of a batch, and its gradient into ``grad`` of the parameters.

        Args:
            batch: This process's shards.

        Returns:
            The loss of the shards of all processes.
        """
        seed = torch.default_generator.initial_seed()
        for shard in batch.shards:
            if not shard.is_counted:
                continue
            seed_shard(seed, shard)
            for parameter in self._parameters:
                parameter.grad = None
            total, sums = self._module(shard)
            total.backward()
            start = time.perf_counter()
            self._tree.add(shard.index, [sums, *(p.grad for p in self._parameters)])
            self.sum_seconds += time.perf_counter() - start
        seed_shard(seed)
        start = time.perf_counter()
        sums, *gradients = self._tree.total([_zeros(self._parameters), *self._parameters])
        self.sum_seconds += time.perf_counter() - start
        assert sums is not None
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        loss = _loss(sums)
        _scale(self._parameters, 1, loss.num_tokens)
        return loss


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _zeros(parameters: Iterable[Tensor]) -> Tensor:
    """Return sums of no shard: loss, cross-entropy and tokens, ``[3]`` in float64."""
    return torch.zeros(3, dtype=torch.float64, device=next(iter(parameters)).device)


@torch.no_grad()
def _scale(parameters: Iterable[nn.Parameter], num: int, count: int) -> None:
    """Multiply gradients by ``num / count``."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        foreach_mul_(gradients, num / count if count else math.inf)


def _loss(sums: Tensor) -> Loss:
    """Return the mean loss from the sums over all shards, ``[3]``."""
    total, nll, count = sums.unbind()
    return Loss(loss=total / count, nll=nll / count, num_tokens=int(count))
