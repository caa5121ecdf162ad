"""Muon: momentum, orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024).

Each weight matrix moves by the nearest semi-orthogonal matrix to its momentum, so that every
direction in its space learns at the same pace. The quintic iteration ``X <- a X + b (X X^T) X + c
(X X^T)^2 X`` needs no decomposition. Matrices of one shape are taken together in batched products.
(Iterating the small Gram matrix alone would need fewer operations, but loses its positive
definiteness to rounding in bfloat16 and diverges.)

Cost a step, for a matrix of m x n with m <= n: 4 m^2 n + 2 m^3 operations an iteration, or 8 m^3
with the Gram matrix. Processes can share it: each computes the updates of some matrices, and they
exchange them. Steps are scaled to the root mean square of an AdamW step
(Liu et al. 2025, "Muon is Scalable for LLM Training", equation 4), so that rates and weight decay
are of AdamW's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.errors import ConfigError, ShapeError
from regard.optim.copying import copied_attributes
from regard.optim.foreach import foreach_add_, foreach_lerp, foreach_lerp_, foreach_mul_
from regard.optim.group_settings import refuse_unknown_settings
from regard.optim.matrix_sharing import MatrixSharing, Shape
from regard.optim.sharding import is_sharded, local_part, whole_tensor
from regard.option_checks import require_number, require_whole

_GRAM_FROM = 8  # length over width from which the Gram matrix alone is iterated
_ROUND_NUMBERS = 1 << 26  # that all processes together exchange at once
_UNIT_FLOPS = 1 << 29  # on a CPU: some milliseconds, next to which calls cost little
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024


def orthogonalize(matrices: Tensor, *, num_steps: int = 5) -> Tensor:
    """Compute matrices with singular values near 1 and the same singular vectors.

    Args:
        matrices: ``[num_matrices, rows, columns]``, floating point; computed in this type.
        num_steps: Newton-Schulz iterations, 1 or more.

    Returns:
        Same shape; singular values lie within about 0.7 to 1.2 where they were at least 0.01 of the
        largest.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices  # [number, short, long]
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    x = _iterate_gram(x, num_steps) if _is_very_long(x) else _iterate(x, num_steps)
    return x.mT if is_tall else x


def _is_very_long(matrices: Tensor) -> bool:
    rows, columns = matrices.shape[-2:]  # of [number, rows, columns]
    return max(rows, columns) >= _GRAM_FROM * min(rows, columns)


def _iterate(x: Tensor, num_steps: int) -> Tensor:
    """Apply ``X <- a X + b (X X^T) X + c (X X^T)^2 X`` to [number, short, long]."""
    for _ in range(num_steps):
        x = torch.baddbmm(x, _polynomial(torch.bmm(x, x.mT)), x, beta=COEFFICIENTS[0])
    return x


def _polynomial(gram: Tensor) -> Tensor:
    """Compute ``b G + c G^2``, [number, short, short]."""
    _, b, c = COEFFICIENTS
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)


def _iterate_gram(x: Tensor, num_steps: int) -> Tensor:
    """Return the iterate of [number, short, long], from iterating ``G = X X^T`` alone.

    Every iterate is ``Q X`` with Q a polynomial in G, and the next G is ``P^2 G`` for the factor P
    of the step, since polynomials of one matrix commute.
    """
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    gram, product = torch.bmm(x, x.mT), identity.expand(len(x), -1, -1)  # [number, short, short]
    for _ in range(num_steps):
        factor = _polynomial(gram) + COEFFICIENTS[0] * identity
        product = torch.bmm(factor, product)
        gram = torch.bmm(factor, torch.bmm(factor, gram))
    return torch.bmm(product, x)


class _Unit(NamedTuple):
    """Matrices of one shape, whose updates are computed together.

    Args:
        group: Has their settings.
        parameters: The matrices; all have a gradient.
        dtype: Type of the products.
    """

    group: dict[str, Any]
    parameters: list[Tensor]
    dtype: torch.dtype

    @property
    def shape(self) -> Shape:
        """Rows and columns of a whole matrix."""
        rows, columns = self.parameters[0].shape
        return rows, columns

    @property
    def map_shape(self) -> Shape:
        """Rows and columns of the maps that are stacked in the rows of a matrix."""
        rows, columns = self.shape
        return rows // self.group["num_parts"], columns

    @property
    def numel(self) -> int:
        """Numbers in all matrices."""
        return len(self.parameters) * self.parameters[0].numel()

    @property
    def flops(self) -> int:
        """Operations of the updates."""
        num_maps = len(self.parameters) * self.group["num_parts"]
        return num_maps * _flops(self.map_shape, self.group["num_steps"])


def _flops(shape: tuple[int, int], num_steps: int) -> int:
    """Return the operations that orthogonalise one map."""
    short, long = sorted(shape)
    if long >= _GRAM_FROM * short:
        return 4 * short**2 * long + num_steps * 8 * short**3
    return num_steps * (4 * short**2 * long + 2 * short**3)


def assign_longest_first(costs: Sequence[int], num_processes: int) -> list[int]:
    """Return which process does each piece of work: the longest first, to whoever has least.

    >>> assign_longest_first([2, 3, 4, 3], 2)
    [0, 1, 0, 1]
    """
    loads, owners = [0] * num_processes, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        owners[index] = loads.index(min(loads))
        loads[owners[index]] += costs[index]
    return owners


def _check_group(group: dict[str, Any]) -> None:
    """Raise ConfigError or ShapeError where settings or parameters of a group do not fit."""
    require_number("lr", group["lr"], "0 or more", lambda lr: lr >= 0)
    require_number("momentum", group["momentum"], "0 to below 1", lambda decay: 0 <= decay < 1)
    require_number("weight_decay", group["weight_decay"], "0 or more", lambda decay: decay >= 0)
    require_whole("num_steps", group["num_steps"], 1)
    require_whole("num_parts", group["num_parts"], 1)
    for parameter in group["params"]:
        if parameter.dim() != 2:
            raise ShapeError(
                f"a parameter of shape {list(parameter.shape)} is not a matrix; Muon takes "
                "matrices only.  Give the others to AdamW."
            )
        if not parameter.is_floating_point():
            raise ConfigError(f"a parameter is {parameter.dtype}; Muon takes floating point alone.")
        if parameter.shape[0] % group["num_parts"]:
            raise ShapeError(
                f"a matrix of {parameter.shape[0]} rows has no num_parts={group['num_parts']} maps "
                "of equal size."
            )


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for the weight matrices inside a network.

    Biases and norms need another optimizer, such as AdamW, and so do weights with two axes that act
    entry by entry, such as biases of heads, ``[heads, dim]``.

    Args:
        params: Matrices, or groups of them; a group may set ``num_parts``, the number of maps that
            are stacked in the rows of each of its matrices and are orthogonalised one by one.
        lr: Learning rate, on AdamW's scale, 0 or more.
        momentum: Decay of the mean of gradients, 0 to below 1.
        weight_decay: Decoupled, 0 or more.
        num_steps: Newton-Schulz iterations, 1 or more.
        dtype: Type of the iteration's products; None takes the parameters'. Matrices at least eight
            times as long as wide always take the parameters'.
        sharing: The processes that share the updates. Each has all matrices and gradients, and the
            weights have the same bits for any number of them; or each has some rows of all matrices
            (`DTensor` of FSDP2). None computes all updates here.

    Raises:
        ConfigError: A setting is out of range, or a group has one of another optimizer.
        ShapeError: A parameter is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        num_steps: int = 5,
        dtype: torch.dtype | None = None,
        sharing: MatrixSharing | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "num_steps": num_steps,
            "num_parts": 1,
        }
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ConfigError(f"dtype must be one of floating point of torch, not {dtype!r}")
        super().__init__(params, defaults)
        self._dtype, self._sharing = dtype, sharing

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles have."""
        return copied_attributes(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a saved run, as a copy: PyTorch's would share its tensors."""
        super().load_state_dict({**state_dict, "state": deepcopy(state_dict["state"])})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add matrices.

        Raises:
            ConfigError: A setting of the group is unknown or out of range.
            ShapeError: A parameter is not a matrix, or not one of maps of equal size.
        """
        refuse_unknown_settings(self, param_group, self.defaults)
        super().add_param_group(param_group)
        try:
            _check_group(self.param_groups[-1])
        except (ConfigError, ShapeError):
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(  # type: ignore[override] - one method instead of torch's overloads
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Take one step.

        Args:
            closure: Computes the loss and the gradients first; None takes the present gradients.

        Returns:
            What the closure returned.

        Raises:
            ConfigError: A gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._refuse_sparse_gradients()
        units = [unit for group in self.param_groups for unit in self._units(group)]
        for unit in units:
            self._update_momentum(unit)
        for unit, updates in self._updates(units):
            _move(unit, updates)
        return loss

    def _refuse_sparse_gradients(self) -> None:
        gradients = (p.grad for group in self.param_groups for p in group["params"])
        if any(gradient is not None and gradient.is_sparse for gradient in gradients):
            raise ConfigError(
                "a gradient is sparse, which Muon does not take.  Build the embedding with "
                "sparse=False, or give it to torch.optim.SparseAdam."
            )

    def _updates(self, units: list[_Unit]) -> Iterator[tuple[_Unit, Iterable[Tensor]]]:
        """Yield all matrices with their updates, or the rows of these that this process has."""
        sharing = self._sharing
        if sharing is None:
            for unit in units:
                updates = self._compute_updates(unit)
                yield unit, map(_part_like, unit.parameters, updates)
        elif any(is_sharded(unit.parameters[0]) for unit in units):
            for together in _rounds(units):
                yield from self._share_rows(together, sharing)
        else:
            yield from self._share_updates(units, sharing)

    def _units(self, group: dict[str, Any]) -> Iterator[_Unit]:
        """Yield the matrices of a group that have a gradient, a few of one shape at a time.

        What is computed together does not depend on the number of processes: where a matrix is in
        memory may decide how its products are rounded.
        """
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.numel():
                by_shape.setdefault(parameter.shape, []).append(parameter)
        for parameters in by_shape.values():
            first = parameters[0]
            unit = _Unit(group, [first], first.dtype)
            if self._dtype is not None and not _is_very_long(first):
                unit = unit._replace(dtype=self._dtype)
            size = len(parameters)
            if is_sharded(first):
                size = 1  # each is gathered, one by one to save memory
            elif first.device.type == "cpu":
                size = max(1, _UNIT_FLOPS // max(1, unit.flops))
            for start in range(0, len(parameters), size):
                yield unit._replace(parameters=parameters[start : start + size])

    def _update_momentum(self, unit: _Unit) -> None:
        buffers, gradients = [], []
        for parameter in unit.parameters:
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            buffers.append(local_part(state["momentum_buffer"]))
            gradients.append(local_part(parameter.grad))
        foreach_lerp_(buffers, gradients, 1 - unit.group["momentum"])

    def _compute_updates(self, unit: _Unit) -> Tensor:
        """Return the orthogonal updates of matrices, ``[matrices, rows, columns]``."""
        # A matrix that processes share is gathered: an update depends on all its entries.
        momenta = torch.stack([whole_tensor(x) for x in self._lookahead(unit)]).to(unit.dtype)
        return _orthogonal(unit, momenta)

    def _lookahead(self, unit: _Unit) -> Sequence[Tensor]:
        """Return Nesterov's momentum of each matrix."""
        decay, parameters = unit.group["momentum"], unit.parameters
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        if any(map(is_sharded, gradients)):
            return [x.lerp(buffer, decay) for x, buffer in zip(gradients, buffers, strict=True)]
        return foreach_lerp(gradients, buffers, decay)

    def _share_updates(
        self, units: list[_Unit], sharing: MatrixSharing
    ) -> Iterator[tuple[_Unit, Tensor]]:
        """Yield all matrices with their updates, of which this process computes some."""
        owned = _assign(units, sharing.num_processes)
        for dtype in dict.fromkeys(unit.dtype for unit in units):
            parts = [[unit for unit in part if unit.dtype == dtype] for part in owned]
            device = units[0].parameters[0].device
            flats = [
                torch.empty(sum(unit.numel for unit in part), dtype=dtype, device=device)
                for part in parts
            ]
            updates = [
                [
                    values.view(-1, *unit.parameters[0].shape)
                    for unit, values in zip(part, flat.split([u.numel for u in part]), strict=True)
                ]
                for part, flat in zip(parts, flats, strict=True)
            ]
            for unit, values in zip(parts[sharing.index], updates[sharing.index], strict=True):
                values.copy_(self._compute_updates(unit))
            sharing.exchange(flats)
            for part, values in zip(parts, updates, strict=True):
                yield from zip(part, values, strict=True)

    def _share_rows(
        self, units: list[_Unit], sharing: MatrixSharing
    ) -> Iterator[tuple[_Unit, Iterable[Tensor]]]:
        """Yield matrices of one type, each alone, with this process's rows of their updates.

        A process gathers the matrices whose updates it computes, and sends the rows of these back.
        """
        template = local_part(units[0].parameters[0]).new_empty(0, dtype=units[0].dtype)
        parts = _assign(units, sharing.num_processes)
        shapes = [[unit.shape for unit in part] for part in parts]
        momenta = [
            [local_part(x).to(unit.dtype) for unit in part for x in self._lookahead(unit)]
            for part in parts
        ]
        own = sharing.gather(momenta, shapes[sharing.index], template)
        updates = [
            _orthogonal(unit, momentum[None])[0]
            for unit, momentum in zip(parts[sharing.index], own, strict=True)
        ]
        for part, rows in zip(parts, sharing.scatter(updates, shapes, template), strict=True):
            yield from ((unit, [own_rows]) for unit, own_rows in zip(part, rows, strict=True))


def _assign(units: Sequence[_Unit], num_processes: int) -> list[list[_Unit]]:
    """Return the matrices whose updates each process computes, ``[processes][units]``."""
    parts: list[list[_Unit]] = [[] for _ in range(num_processes)]
    owners = assign_longest_first([unit.flops for unit in units], num_processes)
    for unit, owner in zip(units, owners, strict=True):
        parts[owner].append(unit)
    return parts


def _rounds(units: Sequence[_Unit]) -> Iterator[list[_Unit]]:
    """Yield matrices of one type that are exchanged at once: as many as memory is spent on."""
    for dtype in dict.fromkeys(unit.dtype for unit in units):
        together: list[_Unit] = []
        for unit in units:
            if unit.dtype == dtype:
                together.append(unit)
                if sum(other.numel for other in together) >= _ROUND_NUMBERS:
                    yield together
                    together = []
        if together:
            yield together


def _orthogonal(unit: _Unit, momenta: Tensor) -> Tensor:
    """Return the updates of some matrices of a unit, ``[matrices, rows, columns]``."""
    maps = momenta.view(-1, *unit.map_shape)  # [matrices * num_parts, rows, columns]
    return orthogonalize(maps, num_steps=unit.group["num_steps"]).reshape(momenta.shape)


def _move(unit: _Unit, updates: Iterable[Tensor]) -> None:
    """Move matrices along their updates; of a matrix in parts, the rows of this process."""
    group = unit.group
    scale = group["lr"] * 0.2 * math.sqrt(max(unit.map_shape))
    shrink = 1 - group["lr"] * group["weight_decay"]
    parts = [local_part(parameter) for parameter in unit.parameters]
    changes = [update.to(parts[0].dtype) for update in updates]
    foreach_mul_(parts, shrink)
    foreach_add_(parts, changes, alpha=-scale)


def _part_like(parameter: Tensor, update: Tensor) -> Tensor:
    """Return this process's part of an update that all processes have."""
    if not is_sharded(parameter):
        return update
    from torch.distributed.tensor import DTensor, Replicate

    mesh = parameter.device_mesh
    whole = DTensor.from_local(update, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return whole.redistribute(mesh, parameter.placements).to_local()
