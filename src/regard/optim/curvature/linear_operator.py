"""Symmetric matrices: a tensor ``[n, n]``, an object with ``@`` and a type, or a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class LinearOperator(Protocol):
    """A square matrix that is multiplied by ``operator @ vector``, such as a tensor."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        ...

    def __matmul__(self, vector: Tensor, /) -> Tensor:
        """Multiply with a vector, ``[n]``."""
        ...


MatVec: TypeAlias = Callable[[Tensor], Tensor]
"""Multiplies a vector, ``[n]``, with a symmetric matrix."""
Operator: TypeAlias = LinearOperator | MatVec


def as_matvec(operator: Operator) -> MatVec:
    """Return the product of an operator with a vector as a function, in the vector's type."""
    if isinstance(operator, Tensor):
        return lambda vector: (operator @ vector.to(operator.dtype)).to(vector.dtype)
    return operator.__matmul__ if isinstance(operator, LinearOperator) else operator


def dtype_of(operator: Operator, dtype: torch.dtype | None) -> torch.dtype:
    """Return `dtype`; where it is None the operator's type, or PyTorch's default."""
    if dtype is not None:
        return dtype
    return operator.dtype if isinstance(operator, LinearOperator) else torch.get_default_dtype()
