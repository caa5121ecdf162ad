"""A data set as one deterministic objective, accumulated over micro-batches and processes.

An evaluation is one pass over the data. Losses are summed in float64; under ``torch.distributed``
loss, number of terms and gradient travel in one all-reduce of float64 (sharded parameters bring
their own collectives, and two numbers are reduced). So value and gradient are
bit-identical on all processes, and every decision that depends on them alone is the same
everywhere. A process without data takes part with nothing to add.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from regard.errors import ConfigError, ShapeError
from regard.optim.curvature.hvp import GaussNewton, Hessian
from regard.optim.foreach import foreach_div, foreach_mul_
from regard.optim.objectives.objective import Reduce, num_processes
from regard.optim.sharding import is_sharded, is_sharded_module

BatchLoss = Callable[..., Tensor | tuple[Tensor, Tensor | int]]
"""Returns the mean over the rows of a batch; or a sum and the number of its terms."""


class MicroBatchShare(NamedTuple):
    """Which of all micro-batches a process has: neighbours, as many as its loader gives.

    Args:
        start: Index of the first of them, from 0.
        num_batches: Micro-batches of all processes.
    """

    start: int
    num_batches: int


class Summation(Protocol):
    """Sums tensors over the micro-batches of all processes, in an order of its own."""

    def add(self, index: int, terms: list[Tensor | None]) -> None:
        """Add the tensors of a micro-batch, which are taken over.

        Args:
            index: Index of the micro-batch among those of all processes; higher than in the last
                call.
            terms: As many in every call; None adds nothing.
        """
        ...

    def total(self, templates: Sequence[Tensor]) -> list[Tensor | None]:
        """Return the sums, the same on every process, and begin new ones.

        Args:
            templates: Tensors of the shapes, types and devices of the terms.

        Returns:
            A tensor for each term; None where no micro-batch had one.
        """
        ...


@dataclass(frozen=True, eq=False)
class _ChosenBatch:
    """A micro-batch for products.

    Args:
        number: Among those that are chosen, of all processes; dropout masks follow from it.
        index: Among all micro-batches.
        batch: The batch.
    """

    number: int
    index: int
    batch: Any


class _BatchMatrix(NamedTuple):
    """The curvature of the summed loss of a batch, and the number of its terms."""

    matrix: Hessian | GaussNewton
    num_terms: float


class FullBatch:
    """The mean loss over all data; callable like a closure.

    Its curvature, a matrix of shape ``[n, n]``, is only multiplied with vectors.

    Args:
        loader: Micro-batches, the same ones whenever it is iterated: a list, or a DataLoader that
            does not shuffle. Under ``torch.distributed``, this process's part, which may be empty
            where parameters are not sharded.
        loss: Loss of a batch, ``loss(batch)``; with `outputs`, ``loss(outputs(batch), batch)``.
            Either the mean over the batch's rows, or a pair: a sum and the number of its terms,
            which weights batches correctly where rows have different numbers of terms.
        outputs: What the model computes from a batch, a tensor; needed for Gauss-Newton products,
            which want the loss to be convex in it.
        parameters: With respect to which derivatives are computed where no optimizer asks for
            them; an optimizer's step puts its own parameters in their place.
        model: Its dropout is switched off, or frozen, while it is evaluated, and its batch norm
            takes the running statistics, which stay. One that is wrapped in DistributedDataParallel
            does not reduce gradients batch by batch.
        dropout: off, or frozen: the same masks throughout a step, new ones in the next.
        seed_dropout: Called with a number that determines the masks; None seeds PyTorch's own
            generator and restores it afterwards.
        curvature_fraction: Fraction of the micro-batches that products are taken over, above 0 to
            1: always the same ones, evenly spaced, since batches may be sorted by length. The
            loader must not shuffle then.
        reduce: Sums over the processes that share the data, in place. None takes those of a model
            in DistributedDataParallel, else all: where one process evaluates alone, give
            ``reduce=lambda tensor: None``.
        part: Which of all micro-batches the loader has, where frozen masks and
            `curvature_fraction` shall not depend on the number of processes; it needs a list then.
            None counts the micro-batches of each process from 0.
        summation: Sums over micro-batches and processes in place of `reduce`, such as in an order
            that does not depend on the number of processes.

    Raises:
        ConfigError: The loader can be iterated once only, or an argument is out of range.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        loss: BatchLoss,
        *,
        outputs: Callable[[Any], Tensor] | None = None,
        parameters: Iterable[Tensor] | None = None,
        model: nn.Module | None = None,
        dropout: Literal["off", "frozen"] = "off",
        seed_dropout: Callable[[int], None] | None = None,
        curvature_fraction: float = 1.0,
        reduce: Reduce | None = None,
        part: MicroBatchShare | None = None,
        summation: Summation | None = None,
    ) -> None:
        if isinstance(loader, Iterator):
            raise ConfigError(
                "the loader is an iterator, which is empty after one pass.  Give a list or a "
                "DataLoader, or write list(loader)."
            )
        if dropout not in ("off", "frozen"):
            raise ConfigError(f"unknown dropout {dropout!r}.  One of: off, frozen")
        if not 0 < curvature_fraction <= 1:
            raise ConfigError(
                f"curvature_fraction must be above 0 and at most 1, not {curvature_fraction}"
            )
        self._loader, self._loss, self._outputs = loader, loss, outputs
        self._parameters = None if parameters is None else list(parameters)
        self._model = getattr(model, "_orig_mod", model)  # that of a compiled one
        self._dropout, self._seed = dropout, seed_dropout
        self._reduce, self._part, self._summation = reduce, part, summation
        self.curvature_fraction = curvature_fraction
        self._sums_of_part: dict[float, list[str]] = {}
        """Sums over the batches that products use, by `curvature_fraction`."""
        self.num_steps = 0
        """Steps begun; frozen dropout masks follow from it."""
        self._may_cache = False  # outside an optimizer's step the parameters may change unnoticed
        self._cached: tuple[object, _BatchMatrix] | None = None

    def __call__(self) -> float:
        """Compute value and gradient, as a closure does."""
        return self.gradient()

    def bind(self, parameters: Sequence[Tensor]) -> None:
        """Take an optimizer's parameters.

        Raises:
            ConfigError: They are sharded, and the model is not known.
        """
        if self._model is None and any(is_sharded(p) for p in parameters):
            raise ConfigError(
                "the parameters are sharded (FSDP), so FullBatch must know the model, which keeps "
                "whole copies between evaluations.  Pass model=model."
            )
        self._parameters, self._cached = list(parameters), None

    def begin_step(self) -> bool:
        """Draw new dropout masks where dropout is frozen; return whether the objective changed."""
        self._may_cache, self._cached = True, None
        if self._dropout == "off":
            return False
        self.num_steps += 1
        return True

    def value(self) -> float:
        """Compute the mean loss: one pass without gradients."""
        return float(self.unread_value())

    def unread_value(self) -> Tensor:
        """Compute the mean loss as `value` does, a scalar of float64 that is not read."""
        if self._summation is not None:
            with torch.no_grad():
                mean = self._ordered_mean(self._summation, [])
            return torch.tensor(mean, dtype=torch.float64)
        with torch.no_grad():
            total, count = self._sums(None)
        total, count = self._reduced(total, count)
        return total / count

    def _empty_sum(self) -> Tensor:
        """Return a zero of float64, the sum of a process without data.

        Raises:
            ConfigError: The process is the only one.
        """
        if self._reduce is None and self._summation is None and num_processes() == 1:
            raise ConfigError("the loader gave no batch.  Is the data set empty?")
        return self._zeros()

    def gradient(self) -> float:
        """Compute the mean loss, and its gradient into ``grad`` of the parameters: one pass."""
        return float(self.unread_gradient())

    def unread_gradient(self) -> Tensor:
        """Compute the mean loss as `gradient` does, a scalar of float64 that is not read."""
        parameters = self._known_parameters()
        for parameter in parameters:
            parameter.grad = None
        if self._summation is not None:
            with torch.enable_grad():
                return torch.tensor(
                    self._ordered_mean(self._summation, parameters), dtype=torch.float64
                )
        with torch.enable_grad():
            total, count = self._sums(Tensor.backward)
        whole = [parameter for parameter in parameters if not is_sharded(parameter)]
        total, count = self._reduced_with_gradients(total, count, whole)
        _divide_gradients(parameters, count)
        return total / count

    def hessian(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Multiply the Hessian, or that of the part `curvature_fraction`, with a vector."""
        return self._product(vector, None)

    def gauss_newton(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Multiply the Gauss-Newton matrix with a vector.

        Args:
            vector: Tensors of the parameters' shapes.

        Returns:
            The product, tensors of the same shapes.

        Raises:
            ConfigError: `outputs` was not given.
        """
        if self._outputs is None:
            raise ConfigError(
                "Gauss-Newton products need to know the model's outputs.  FullBatch(loader, "
                "lambda outputs, batch: ..., outputs=lambda batch: model(...)); or take the "
                "Hessian: curvature='hessian'."
            )
        return self._product(vector, self._outputs)

    def _known_parameters(self) -> list[Tensor]:
        if self._parameters is None:
            raise ConfigError(
                "the objective does not know its parameters.  Pass it to an optimizer's step, or "
                "give parameters=model.parameters()."
            )
        return self._parameters

    def _sums(self, use: Callable[[Tensor], object] | None) -> tuple[Tensor, Tensor | float]:
        """Sum loss and number of terms, float64, over this process's data; call `use` on each."""
        total, count = None, 0.0  # a number stays one: a GPU need not be asked for it
        with self._evaluating():
            for index, batch in enumerate(self._loader, self._start):
                self._seed_masks(index)
                loss, terms = self._terms(batch)
                if use is not None:
                    use(loss)
                added = loss.detach().double()
                total = added if total is None else total + added
                count += terms.to(added) if isinstance(terms, Tensor) else terms
        if total is None:
            return self._empty_sum(), 0.0
        return total, count

    @property
    def _start(self) -> int:
        """Index of this process's first micro-batch."""
        return 0 if self._part is None else self._part.start

    def _ordered_mean(self, summation: Summation, parameters: Sequence[Tensor]) -> float:
        """Return the mean loss in the order of `summation`; put gradients into ``grad``."""
        with self._evaluating():
            for index, batch in enumerate(self._loader, self._start):
                self._seed_masks(index)
                loss, terms = self._terms(batch)
                if parameters:
                    loss.backward()
                value = loss.detach().double()
                count = torch.as_tensor(terms, dtype=value.dtype, device=value.device)
                gradients = [parameter.grad for parameter in parameters]
                summation.add(index, [torch.stack([value, count]), *gradients])
                for parameter in parameters:
                    parameter.grad = None
        sums, *gradients = summation.total([self._zeros(2), *parameters])
        value, count = _required(sums).unbind()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.div_(float(count))
        return float(value / count)

    def _zeros(self, *shape: int) -> Tensor:
        """Return zeros in float64, on the device of the parameters."""
        parameters = self._parameters or (
            [] if self._model is None else list(self._model.parameters())
        )
        device = parameters[0].device if parameters else "cpu"
        return torch.zeros(shape, dtype=torch.float64, device=device)

    def _terms(self, batch: Any) -> tuple[Tensor, Tensor | int]:
        """Compute the sum of the loss over a batch, and the number of terms."""
        if self._outputs is None:
            return _as_sum(self._loss(batch), batch)
        return _as_sum(self._loss(self._outputs(batch), batch), batch)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Switch dropout off or freeze it, and mixed precision off."""
        model, parameters = self._model, self._parameters
        modules = [] if model is None else list(model.modules())
        training = [module for module in modules if module.training]
        _drop_copies(modules)
        for module in training:  # batch norm would change its statistics at every trial
            if self._dropout == "off" or isinstance(module, _BatchNorm):
                module.training = False
        device = parameters[0].device if parameters else torch.device("cpu")
        devices = [device] if device.type == "cuda" else []
        draws = self._dropout == "frozen" and self._seed is None
        with (
            torch.autocast(device.type, enabled=False),
            torch.random.fork_rng(devices, enabled=draws),
            model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext(),
        ):
            try:
                yield
            finally:
                for module in training:
                    module.training = True
                _drop_copies(modules)

    def _seed_masks(self, index: int) -> None:
        """Determine the dropout masks of a micro-batch."""
        if self._dropout == "off":
            return
        seed = self.num_steps * 1_000_003 + index
        if self._seed is None:
            torch.manual_seed(seed)
        else:
            self._seed(seed)

    def _product(
        self, vector: Sequence[Tensor], outputs: Callable[[Any], Tensor] | None
    ) -> list[Tensor]:
        """Return the mean product over all terms: of Gauss-Newton with outputs, or the Hessian."""
        parameters = self._known_parameters()
        batches = self._curvature_batches()
        versions = [p._version for p in parameters]
        key = (outputs is None, self.num_steps, self.curvature_fraction, versions)
        products = [torch.zeros_like(p) for p in parameters]
        num_terms, summation = 0.0, self._summation
        with self._evaluating(), torch.enable_grad():
            for numbered in batches:
                if self._cached is not None and self._cached[0] == key:
                    part = self._cached[1]
                else:
                    self._seed_masks(numbered.number)
                    part = self._batch_matrix(numbered.batch, outputs)
                added = part.matrix.matvec(vector)
                if summation is not None:
                    copies = [term.clone() for term in added]  # two may be one tensor
                    summation.add(numbered.index, [self._zeros(1) + part.num_terms, *copies])
                else:
                    for product, term in zip(products, added, strict=True):
                        product.add_(term)
                num_terms += part.num_terms
                if self._may_cache and len(batches) == 1:  # keep its graph for the next product
                    self._cached = key, part
        if summation is not None:
            counts, *totals = summation.total([self._zeros(1), *products])
            count = float(_required(counts))
            return [_required(product) / count for product in totals]
        zero = torch.zeros((), dtype=torch.float64, device=parameters[0].device)
        _, count = self._reduced(zero, num_terms, products)
        return list(foreach_div(products, float(count)))

    def _curvature_batches(self) -> list[_ChosenBatch]:
        loader = self._loader
        if self.curvature_fraction < 1 and _shuffles(loader):
            raise ConfigError(
                f"curvature_fraction={self.curvature_fraction} takes products over always the same "
                "batches, but the loader shuffles: each product would be that of another matrix.  "
                "Give a DataLoader with shuffle=False, or FullBatch(list(loader), ...)."
            )
        if self.curvature_fraction == 1 or not isinstance(loader, Sized):
            loader = list(loader)
        if not len(loader):
            self._empty_sum()
            return []
        start = self._start
        num_batches = len(loader) if self._part is None else self._part.num_batches
        indices = evenly_spaced(num_batches, self.curvature_fraction)
        if isinstance(loader, Sequence):
            return [
                _ChosenBatch(number, index, loader[index - start])
                for number, index in enumerate(indices)
                if start <= index < start + len(loader)
            ]
        batches = [batch for index, batch in enumerate(loader) if index in set(indices)]
        sums = [repr(_sum_of(batch)) for batch in batches]  # text, so that NaN equals NaN
        if self._sums_of_part.setdefault(self.curvature_fraction, sums) != sums:
            raise ConfigError(
                f"curvature_fraction={self.curvature_fraction} takes products over always the same "
                "batches, but the loader gave others than before.  Give one that does not shuffle, "
                "or FullBatch(list(loader), ...)."
            )
        return [
            _ChosenBatch(number, index, batch)
            for number, (index, batch) in enumerate(zip(indices, batches, strict=True))
        ]

    def _batch_matrix(self, batch: Any, outputs: Callable[[Any], Tensor] | None) -> _BatchMatrix:
        if outputs is None:
            total, terms = self._terms(batch)
            return _BatchMatrix(Hessian(total, self._known_parameters()), float(terms))
        num_terms = 0.0

        def loss(outputs: Tensor) -> Tensor:
            nonlocal num_terms
            total, terms = _as_sum(self._loss(outputs, batch), batch)
            num_terms = float(terms)
            return total

        matrix = GaussNewton(outputs(batch), loss, self._known_parameters())
        return _BatchMatrix(matrix, num_terms)

    def _sum_over_processes(self) -> Reduce | None:
        """Return what sums over the processes that share the data; None for one alone."""
        if self._reduce is not None or num_processes() == 1:
            return self._reduce
        model = self._model
        group = model.process_group if isinstance(model, DistributedDataParallel) else None
        return partial(dist.all_reduce, group=group)

    def _reduced(
        self, total: Tensor, count: Tensor | float, gradients: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor | float]:
        """Return loss and number of terms summed over processes, and sum gradients in place.

        Raises:
            ConfigError: No process has a term; it is raised on all.
        """
        reduce = self._sum_over_processes()
        if reduce is None:
            return total, count
        counts = torch.stack([total, torch.zeros_like(total) + count])
        flat = torch.cat([counts, *[g.reshape(-1).double() for g in gradients]])
        reduce(flat)
        if not flat[1]:
            raise ConfigError(
                f"the loaders of all {num_processes()} processes gave no term of the loss.  Is the "
                "data set empty?"
            )
        start = 2
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view(gradient.shape))
            start += gradient.numel()
        return flat[0], flat[1]

    def _reduced_with_gradients(
        self, total: Tensor, count: Tensor | float, parameters: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor | float]:
        """Return the sums over processes, and sum ``grad`` in place; None where none has one.

        Some may have none where others have: no data, or none that uses a parameter.
        """
        if self._sum_over_processes() is None:
            return total, count
        has_gradient = torch.tensor([float(p.grad is not None) for p in parameters])
        counted = has_gradient.to(total)
        slopes = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        total, count = self._reduced(total, count, [counted, *slopes])
        for parameter, slope, num_gradients in zip(
            parameters, slopes, counted.tolist(), strict=True
        ):
            parameter.grad = slope if num_gradients else None
        return total, count


def _divide_gradients(parameters: Sequence[Tensor], count: Tensor | float) -> None:
    """Divide the gradients of sums by the number of terms, in place."""
    by_factor: dict[int, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            # Sharding has averaged over processes.
            num_summed = num_processes() if is_sharded(parameter) else 1
            by_factor.setdefault(num_summed, []).append(parameter.grad)
    for num_summed, gradients in by_factor.items():
        factor = math.inf if isinstance(count, float) and not count else num_summed / count
        foreach_mul_(gradients, factor)


def _required(total: Tensor | None) -> Tensor:
    """Return a sum.

    Raises:
        ConfigError: It has no terms.
    """
    if total is None:
        raise ConfigError("the loaders gave no term of the loss.  Is the data set empty?")
    return total


def _shuffles(loader: Iterable[Any]) -> bool:
    """Return whether a DataLoader takes its rows in another order every time."""
    if not isinstance(loader, DataLoader):
        return False
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    return isinstance(sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler)


def _sum_of(batch: Any) -> float:
    """Return the sum of all tensors of a batch, by which it is recognised."""
    if isinstance(batch, Tensor):
        return float(batch.detach().double().sum())
    parts = batch.values() if isinstance(batch, Mapping) else batch
    if isinstance(parts, str | bytes) or not isinstance(parts, Iterable):
        return 0.0
    return sum(map(_sum_of, parts))


def evenly_spaced(num_batches: int, fraction: float) -> list[int]:
    """Return the indices of a fraction of the batches, 1 at least, in the middle of equal parts.

    >>> evenly_spaced(8, 0.5), evenly_spaced(8, 0.25), evenly_spaced(8, 0.01)
    ([1, 3, 5, 7], [2, 6], [4])
    """
    num = max(1, round(fraction * num_batches))
    return [(2 * part + 1) * num_batches // (2 * num) for part in range(num)]


def _drop_copies(modules: Sequence[nn.Module]) -> None:
    """Free whole parameters that sharding has kept from a pass without gradients.

    The next pass would use them, though the optimizer has moved its parts since.
    """
    for module in modules if "torch.distributed.fsdp" in sys.modules else ():
        if is_sharded_module(module):
            module.reshard()


def _as_sum(returned: object, batch: Any) -> tuple[Tensor, Tensor | int]:
    """Return a sum and the number of its terms from what a loss function returned."""
    if isinstance(returned, tuple):
        loss, terms = returned
    else:
        terms = _num_rows(batch)
        loss = returned * terms if isinstance(returned, Tensor) else returned
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ShapeError(f"the loss is {shape}; a scalar tensor is expected.  Take its mean.")
    return loss.reshape(()), terms


def _num_rows(batch: Any) -> int:
    """Return the number of rows of a batch: the length of its first tensor."""
    if isinstance(batch, Tensor) and batch.dim():
        return len(batch)
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    if isinstance(parts, list | tuple) and parts:
        return _num_rows(parts[0])
    raise ConfigError(
        f"the number of rows is unknown for a batch of type {type(batch).__name__}.  Let the loss "
        "return a pair: the sum and the number of its terms."
    )
