"""The parameters of an optimizer as one flat vector, so that methods read like their formulas.

A group's ``scale`` changes variables to ``z = x / scale`` (a diagonal preconditioner): gradients
are multiplied by it on the way in, steps on the way out. Positions are kept unscaled, so that going
back to one is exact. Inner products of float32 vectors are summed in float64, except for
runs of 16 terms. Parameters that are sharded over processes (DTensor) are taken by their local
part, and inner products are summed over the processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.foreach import foreach_add_
from regard.optim.sharding import is_sharded, local_part

_BLOCK = 1 << 17  # entries that are multiplied at a time: their sums stay in the cache
_BLOCK_OF_ROWS = 1 << 18  # the same of every row of a matrix: fewer calls, and still in the cache
_RUN = 64  # terms that a matrix product may add to each other in float32
_FEW = 6  # products: of matrices that small PyTorch computes them by a plain loop
_BLOCKS = 16  # whose products are added to each other in float32, entry by entry
_DEVICE_BLOCK = 1 << 24  # entries of a GPU's vectors that are multiplied at a time, for memory
_DEVICE_RUN = 256  # terms that a GPU's matrix product may add to each other in float32


class FlatParameters:
    """Parameters, group after group, as one vector of n entries; several vectors are ``[m, n]``.

    Args:
        groups: As in ``torch.optim.Optimizer.param_groups``; ``scale`` above 0, default 1.
        frozen: Parameters to leave out; others that need no gradient then have a gradient of zero.
            None refuses parameters that need no gradient.

    Raises:
        ConfigError: A parameter cannot be optimized, or types or devices differ.
    """

    def __init__(
        self, groups: Sequence[Mapping[str, Any]], *, frozen: Sequence[Tensor] | None = None
    ) -> None:
        self.scales = [float(group.get("scale", 1.0)) for group in groups]
        """Scale of each group."""
        pairs = [
            (parameter, scale)
            for group, scale in zip(groups, self.scales, strict=True)
            for parameter in group["params"]
        ]
        self.frozen = [] if frozen is None else list(frozen)
        """Parameters that were left out."""
        skipped = {id(parameter) for parameter in self.frozen}
        pairs = [pair for pair in pairs if id(pair[0]) not in skipped]
        pairs.sort(key=lambda pair: not is_sharded(pair[0]))  # sharded ones first
        self.parameters: list[Tensor] = [parameter for parameter, _ in pairs]
        self._scales = [scale for _, scale in pairs]
        _check(self.parameters, self._scales, allows_frozen=frozen is not None)
        sizes = [local_part(parameter).numel() for parameter in self.parameters]
        self.size = sum(sizes)
        sharded = zip(self.parameters, sizes, strict=True)
        self._num_sharded = sum(size for p, size in sharded if is_sharded(p))
        self.is_sharded = any(is_sharded(p) for p in self.parameters)
        """Whether a process holds only a part of the parameters, which may be empty."""
        self._sizes = sizes
        self._spans = list(zip(accumulate(sizes, initial=0), sizes, strict=False))
        # Whether entries are those of whole parameters, unscaled, one after another.
        self._is_plain = not self.is_sharded and all(scale == 1.0 for scale in self._scales)
        self._flat_parts: list[Tensor] = []  # views of the parameters, [entries]

    @property
    def dtype(self) -> torch.dtype:
        """Type of all parameters."""
        return self.parameters[0].dtype

    def zeros(self) -> Tensor:
        """Return a vector of zeros, ``[n]``."""
        return torch.zeros(
            self.size, dtype=self.dtype, device=local_part(self.parameters[0]).device
        )

    @property
    def waits(self) -> bool:
        """Whether Python waits for a device where it reads a number."""
        return local_part(self.parameters[0]).device.type != "cpu"

    def read(self, numbers: Mapping[str, Tensor]) -> dict[str, float]:
        """Return scalars of one device as numbers, in one transfer."""
        if not numbers:
            return {}
        stacked = torch.stack([number.reshape(()).double() for number in numbers.values()])
        return dict(zip(numbers, stacked.tolist(), strict=True))

    def copy_parameters(self, out: Tensor) -> Tensor:
        """Copy the parameters into `out`, ``[n]``, unscaled."""
        if self._parts_in_a_row():
            return torch.cat(self._flat_parts, out=out)
        for parameter, part in zip(self.parameters, self._views(out), strict=True):
            part.copy_(local_part(parameter).detach())
        return out

    def copy_gradient(self, out: Tensor) -> Tensor:
        """Copy the gradients into `out`, ``[n]``, scaled; a missing one is zero."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if self._is_plain and len(gradients) == len(self.parameters):
            return torch.cat([_dense(gradient).reshape(-1) for gradient in gradients], out=out)
        triples = zip(self.parameters, self._views(out), self._scales, strict=True)
        for parameter, part, scale in triples:
            if parameter.grad is None:
                part.zero_()
                continue
            part.copy_(_dense(local_part(parameter.grad)))
            if scale != 1.0:
                part.mul_(scale)
        return out

    def move(self, start: Tensor, direction: Tensor | None = None, step_size: float = 0.0) -> None:
        """Set the parameters to ``start + step_size * direction``, or to `start`."""
        limit = torch.finfo(self.dtype).max  # PyTorch refuses a factor beyond it
        if self._parts_in_a_row():
            torch.split_with_sizes_copy(start, self._sizes, out=self._flat_parts)
            if direction is not None:
                along = direction.split(self._sizes)
                alpha = min(step_size, limit)
                foreach_add_(self._flat_parts, along, alpha=alpha)
            return
        starts = self._views(start)
        if direction is None:
            for parameter, origin in zip(self.parameters, starts, strict=True):
                local_part(parameter.detach()).copy_(origin)
            return
        directions = self._views(direction)
        rows = zip(self.parameters, starts, directions, self._scales, strict=True)
        for parameter, origin, along, scale in rows:
            factor = min(step_size * scale, limit)
            torch.add(origin, along, alpha=factor, out=local_part(parameter.detach()))

    def is_at(self, position: Tensor) -> bool:
        """Return whether the parameters are bit-identical to a position, ``[n]``."""
        pairs = zip(self.parameters, self._views(position), strict=True)
        is_same = all(torch.equal(local_part(p.detach()), part) for p, part in pairs)
        if not self.is_sharded:
            return is_same
        everywhere = torch.tensor(int(is_same), device=position.device)
        dist.all_reduce(everywhere, op=dist.ReduceOp.MIN)
        return bool(everywhere)

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Return a step, ``[n]``, as tensors of the parameters' shapes, unscaled."""
        pairs = zip(self._views(vector), self._scales, strict=True)
        return [part if scale == 1.0 else part * scale for part, scale in pairs]

    def flatten(self, tensors: Sequence[Tensor], out: Tensor) -> Tensor:
        """Copy gradients of the parameters' shapes into `out`, ``[n]``, scaled."""
        if self._is_plain:
            return torch.cat([tensor.reshape(-1) for tensor in tensors], out=out)
        for tensor, part, scale in zip(tensors, self._views(out), self._scales, strict=True):
            torch.mul(tensor, scale, out=part)
        return out

    def dot(self, first: Tensor, second: Tensor) -> float:
        """Compute the inner product of two vectors, ``[n]``."""
        return float(self.product(first, second))

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the inner product of two vectors, ``[n]``, as a scalar that is not read."""
        if not self.is_sharded:
            return inner_product(first, second)
        count = self._num_sharded
        total = inner_product(first[:count], second[:count])
        if dist.get_rank() == 0:  # one process for all: where a part begins decides its rounding
            total += inner_product(first[count:], second[count:])
        dist.all_reduce(total)
        return total

    def dots(self, rows: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        """Compute the inner products of rows, ``[m, n]``, with k vectors: ``[m, k]``, float64."""
        if not self.is_sharded:
            return inner_products(rows, vectors)
        count = self._num_sharded
        total = inner_products(rows[:, :count], [vector[:count] for vector in vectors])
        if dist.get_rank() == 0:  # one process for all: see `product`
            total += inner_products(rows[:, count:], [vector[count:] for vector in vectors])
        dist.all_reduce(total)
        return total

    def norm(self, vector: Tensor) -> float:
        """Compute the Euclidean norm of a vector, ``[n]``."""
        return self.dot(vector, vector) ** 0.5

    def max_abs(self, vector: Tensor) -> float:
        """Return the largest absolute entry of a vector, ``[n]``."""
        return float(self.largest(vector))

    def largest(self, vector: Tensor) -> Tensor:
        """Return the largest absolute entry of a vector, ``[n]``, as a scalar that is not read."""
        largest = torch.zeros((), dtype=vector.dtype, device=vector.device)
        if len(vector):  # a process may hold no part; the norm of PyTorch is not vectorised
            largest = torch.stack(torch.aminmax(vector)).abs().amax()
        if self.is_sharded:
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return largest

    def max_abs_parameter(self, out: Tensor) -> float:
        """Return the largest absolute scaled parameter; `out`, ``[n]``, receives them all."""
        for part, scale in zip(self._views(self.copy_parameters(out)), self._scales, strict=True):
            if scale != 1.0:
                part.div_(scale)
        return self.max_abs(out)

    def versions(self) -> list[tuple[int, int, bool]]:
        """Return what changes whenever a parameter is written to, gets other storage or is frozen.

        Writing to ``parameter.data`` in place is not noticed: PyTorch keeps no record of it.
        """
        if not self.is_sharded:
            return [(p._version, p.data_ptr(), p.requires_grad) for p in self.parameters]
        return [
            (p._version, local_part(p.detach()).data_ptr(), p.requires_grad)
            for p in self.parameters
        ]

    def _parts_in_a_row(self) -> bool:
        """Return whether `_flat_parts` are the parameters now, each in a row of entries."""
        are_rows = self._is_plain and all(p.is_contiguous() for p in self.parameters)
        if are_rows and _addresses(self._flat_parts) != _addresses(self.parameters):
            self._flat_parts = [p.detach().view(-1) for p in self.parameters]
        return are_rows

    def _views(self, vector: Tensor) -> list[Tensor]:
        """View a vector, [n], as tensors of the parameters' shapes."""
        return [
            vector[start : start + size].view(local_part(parameter).shape)
            for (start, size), parameter in zip(self._spans, self.parameters, strict=True)
        ]


def _addresses(tensors: Sequence[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def inner_product(first: Tensor, second: Tensor) -> Tensor:
    """Compute the inner product of two vectors, ``[n]``.

    That of float32 vectors is off by at most 16 roundings, 1e-6 of the product of their norms.

    Args:
        first: ``[n]``, any floating-point type.
        second: ``[n]``, of the same type.

    Returns:
        A scalar of float64.
    """
    if first.device.type != "cpu":
        return _device_inner_product(first, second)
    blocks = zip(first.split(_BLOCK), second.split(_BLOCK), strict=True)
    if first.dtype == torch.float64:
        return torch.stack([torch.dot(a, b) for a, b in blocks]).sum()
    # The rounding error of a float32 sum grows with its number of terms: few are added at a time.
    sums = torch.zeros(min(len(first), _BLOCK), dtype=torch.float32, device=first.device)
    totals = []
    for index, (a, b) in enumerate(blocks):
        if index and index % _BLOCKS == 0:
            totals.append(sums.sum(dtype=torch.float64))
            sums.zero_()
        sums[: len(a)].addcmul_(a.float(), b.float())
    return torch.stack([*totals, sums.sum(dtype=torch.float64)]).sum()


def _device_inner_product(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner product of two vectors, ``[n]``, by few calls: float64, a scalar.

    Each product is rounded once to float32, squares are not; they are summed in float64.
    """
    if first is second:  # read once, and nothing is written
        return torch.linalg.vector_norm(first, dtype=torch.float64).square()
    wide = torch.promote_types(first.dtype, torch.float32)
    blocks = zip(first.split(_DEVICE_BLOCK), second.split(_DEVICE_BLOCK), strict=True)
    sums = [(a.to(wide) * b.to(wide)).sum(dtype=torch.float64) for a, b in blocks]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum()


def inner_products(rows: Tensor, vectors: Sequence[Tensor]) -> Tensor:
    """Compute the inner products of several rows with several vectors, reading each row once.

    Those of float32 vectors are sums in float64 of sums of 64 terms, by the processor's matrix
    product: off by 1e-6 of the product of the norms.

    Args:
        rows: ``[m, n]``, any floating-point type.
        vectors: k vectors ``[n]`` of the same type.

    Returns:
        ``[m, k]`` of float64.
    """
    if rows.dtype == torch.float64:
        return torch.stack([rows @ vector for vector in vectors], dim=1)
    if rows.device.type != "cpu":
        with _exact_matrix_products(rows.device.type):
            return _products_in_runs(rows, vectors, _DEVICE_RUN).T
    if len(rows) * len(vectors) <= _FEW:
        products = [inner_product(row, vector) for row in rows for vector in vectors]
        return torch.stack(products).view(len(rows), len(vectors))
    totals = torch.zeros(len(vectors), len(rows), dtype=torch.float64, device=rows.device)
    with _exact_matrix_products():
        for start in range(0, rows.shape[1], _BLOCK_OF_ROWS):
            block = slice(start, start + _BLOCK_OF_ROWS)
            totals += _products_in_runs(rows[:, block], [vector[block] for vector in vectors])
    return totals.T.contiguous()  # as a reduction over processes wants it


def _products_in_runs(rows: Tensor, vectors: Sequence[Tensor], run: int = _RUN) -> Tensor:
    """Return the products of k vectors, [width], with rows, [m, width]: [k, m] in float64.

    Of float32 vectors, `run` terms are added to each other in float32.
    """
    width = rows.shape[1]
    cut = width - width % run if rows.dtype == torch.float32 else 0
    total = torch.stack([vector[cut:] for vector in vectors]).double() @ rows[:, cut:].double().T
    if cut:
        runs = [vector[:cut].view(-1, 1, run) for vector in vectors]
        left = runs[0] if len(runs) == 1 else torch.cat(runs, dim=1)  # [runs, k, run]
        right = rows[:, :cut].unflatten(1, (-1, run)).permute(1, 2, 0)  # [runs, run, m]
        total += torch.bmm(left, right).sum(0, dtype=torch.float64)
    return total


@contextmanager
def _exact_matrix_products(device_type: str = "cpu") -> Iterator[None]:
    """Keep matrix products from fewer bits than float32 has, whatever is set outside."""
    # Of the libraries for float32 these alone take fewer.
    onednn = torch.backends.mkldnn.enabled
    tf32 = _without_tf32() if device_type == "cuda" else nullcontext()
    torch.backends.mkldnn.enabled = False
    try:
        with tf32, torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.backends.mkldnn.enabled = onednn


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Let a GPU multiply float32 exactly.

    PyTorch has an older and a newer setting of this, and refuses to multiply where they differ; the
    older one sets the newer ones, too.
    """
    backends: Any = torch.backends
    settings = backends.cuda.matmul, backends.mkldnn.matmul
    newer = [setting.fp32_precision for setting in settings]
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # the newer one was set alone
        older = "highest"
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        for setting, precision in zip(settings, newer, strict=True):
            setting.fp32_precision = precision


def linear_combination(
    start: Tensor, factor: Tensor, rows: Tensor, weights: Tensor, out: Tensor
) -> Tensor:
    """Compute ``factor * start + weights @ rows``; on a CPU in blocks, which stay in the cache.

    Args:
        start: ``[n]``; may be `out`.
        factor: Factor of `start`, a scalar.
        rows: ``[m, n]``.
        weights: Weights of the rows, ``[m]``; both in float64, on the device of the vectors.
        out: Receives the sum, ``[n]``.

    Returns:
        `out`.
    """
    if out.device.type != "cpu":
        wide = torch.promote_types(out.dtype, torch.float32)
        total = out if out.dtype == wide else torch.empty_like(out, dtype=wide)
        with _exact_matrix_products(out.device.type):
            torch.mul(start.to(wide), factor, out=total).addmv_(rows.to(wide).T, weights.to(wide))
        return total if total is out else out.copy_(total)
    size, scale, alphas = _BLOCK_OF_ROWS, float(factor), weights.tolist()
    for first, block, part in zip(
        start.split(size), rows.split(size, dim=1), out.split(size), strict=True
    ):
        torch.mul(first, scale, out=part)
        for row, alpha in zip(block, alphas, strict=True):
            part.add_(row, alpha=alpha)
    return out


def _check(parameters: Sequence[Tensor], scales: Sequence[float], *, allows_frozen: bool) -> None:
    for index, (parameter, scale) in enumerate(zip(parameters, scales, strict=True)):
        name = f"parameter {index} of shape {list(parameter.shape)}"
        _require_numbers(name, parameter)
        if not (parameter.requires_grad or allows_frozen):
            raise ConfigError(
                f"{name} has requires_grad=False, so it would never move.  Leave it out, or call "
                "requires_grad_() on it."
            )
        if not scale > 0:
            raise ConfigError(f"scale of {name} must be above 0, not {scale}")
    _require_one_kind(parameters)


def _require_one_kind(parameters: Sequence[Tensor]) -> None:
    """Raise ConfigError where parameters differ in type or device."""
    kinds = sorted({f"{str(p.dtype).removeprefix('torch.')} on {p.device}" for p in parameters})
    if len(kinds) > 1:
        raise ConfigError(
            f"parameters are {' and '.join(kinds)}; an inner product over all of them needs one "
            "type and one device."
        )


def _require_numbers(name: str, parameter: Tensor) -> None:
    """Raise ConfigError where a parameter has no memory with a real number for each entry."""
    if not parameter.is_floating_point():
        raise ConfigError(
            f"{name} is {str(parameter.dtype).removeprefix('torch.')}; these methods take real "
            "floating-point parameters only.  Convert it, leave it out, or keep real and "
            "imaginary part as two parameters."
        )
    if parameter.is_meta:
        raise ConfigError(
            f"{name} is on the device meta, which holds no numbers.  Give the model its weights "
            "first: model.to_empty(device=...), then load_state_dict."
        )
    if parameter.layout != torch.strided:
        raise ConfigError(
            f"{name} is {str(parameter.layout).removeprefix('torch.')}; these methods take dense "
            "parameters only.  Convert it: to_dense()."
        )


def _dense(gradient: Tensor) -> Tensor:
    """Return a gradient that may be sparse, as that of an embedding, as a dense one."""
    return gradient.to_dense() if gradient.is_sparse else gradient
