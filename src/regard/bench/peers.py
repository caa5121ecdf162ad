"""What ``regard bench attention`` compares: our attention and other libraries', on one case.

Each implementation computes the same function of the same q, k and v. One that cannot is left out,
with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention import (
    Causal,
    Full,
    ScoreDependentPattern,
    allowed_matrix,
    attend,
    parse_pattern,
)
from regard.attention.patterns.base import ResolvedPattern
from regard.attention.patterns.mask_algebra import MaskTerm

Order = Literal["forward", "gradient", "hvp"]
ORDERS: tuple[Order, ...] = ("forward", "gradient", "hvp")

_SLOW_MASK = "There is a performance drop because we have not yet implemented the batching rule for"
_LARGEST_MASK = 2**29  # pairs; beside a mask of booleans PyTorch lays out one of numbers


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attention to compute: batch 1, self-attention.

    Args:
        pattern: As `parse_pattern` reads it.
        length: Number of queries and of keys, 1 or more.
        num_heads: 1 or more.
        dim: Size of a query, of a key and of a value, 1 or more.
        dtype: Of q, k and v.
        is_decoder: Allow only keys at or before the query.
    """

    pattern: str
    length: int
    num_heads: int = 8
    dim: int = 64
    dtype: Literal["float32", "bf16"] = "float32"
    is_decoder: bool = True

    def parse(self) -> ResolvedPattern:
        """Read the pattern, settled for the length."""
        pattern = parse_pattern(self.pattern, is_decoder=self.is_decoder)
        return pattern.resolve(self.length, self.length)

    def draw(self, count: int, *, seed: int) -> tuple[Tensor, ...]:
        """Draw `count` normal tensors ``[1, heads, length, dim]``."""
        generator = torch.Generator().manual_seed(seed)
        shape = (1, self.num_heads, self.length, self.dim)
        dtype = torch.bfloat16 if self.dtype == "bf16" else torch.float32
        return tuple(torch.randn(shape, generator=generator).to(dtype) for _ in range(count))


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """An implementation that was left out.

    Args:
        side: Its name.
        pattern: Of the case.
        length: Of the case.
        reason: Why.
    """

    side: str
    pattern: str
    length: int
    reason: str


@dataclass(frozen=True)
class Implementation:
    """One way of computing a case.

    Args:
        name: As in the table.
        forward: From q, k and v to the output, all ``[1, heads, length, dim]``.
        orders: What it can compute.
    """

    name: str
    forward: Callable[[Tensor, Tensor, Tensor], Tensor]
    orders: tuple[Order, ...]


class Operands:
    """The numbers of a case: q, k, v, and the weights and directions of its derivatives.

    Args:
        case: Gives their shape and type.
    """

    def __init__(self, case: Case) -> None:
        self.inputs = tuple(x.requires_grad_() for x in case.draw(3, seed=1))
        self.weight, *self.directions = case.draw(4, seed=2)


class Computation:
    """The value, gradient or Hessian-vector product of one implementation, to be called repeatedly.

    The function is the inner product of the output with fixed weights; derivatives are with respect
    to q, k and v. "gradient" includes the forward pass, "hvp" includes the gradient.

    Args:
        implementation: Which computes.
        operands: Of what.
        order: How far.
    """

    def __init__(self, implementation: Implementation, operands: Operands, order: Order) -> None:
        self._implementation, self._operands, self._order = implementation, operands, order

    def __call__(self) -> tuple[Tensor, ...]:
        """Compute once.

        Returns:
            The output, the gradient, or the product, the latter two for q, k and v.
        """
        inputs = self._operands.inputs
        if self._order == "forward":
            with torch.no_grad():
                q, k, v = (x.detach() for x in inputs)
                return (self._implementation.forward(q, k, v),)
        q, k, v = inputs
        value = (self._implementation.forward(q, k, v) * self._operands.weight).sum()
        is_hvp = self._order == "hvp"
        gradient = torch.autograd.grad(value, inputs, create_graph=is_hvp)
        if not is_hvp:
            return gradient
        return torch.autograd.grad(gradient, inputs, self._operands.directions)


def ours(case: Case) -> Implementation:
    """Build `attend` with the case's pattern."""
    pattern = case.parse()
    return Implementation("regard", lambda q, k, v: attend(q, k, v, pattern=pattern), ORDERS)


def sdpa(case: Case) -> Implementation | str:
    """Build PyTorch's scaled_dot_product_attention, or tell why not.

    The mask is made once, outside of what is timed. Its fast kernels have no second derivative.
    """
    pattern = case.parse()
    if isinstance(pattern, ScoreDependentPattern):
        return f"{pattern!r} is no mask"
    attention = F.scaled_dot_product_attention
    orders: tuple[Order, ...] = ("forward", "gradient")
    if isinstance(pattern, Full):
        return Implementation("sdpa", attention, orders)
    if isinstance(pattern, Causal):
        return Implementation("sdpa", lambda q, k, v: attention(q, k, v, is_causal=True), orders)
    if case.length**2 > _LARGEST_MASK:
        return f"a mask of {case.length:,} x {case.length:,} does not fit"
    mask = allowed_matrix(pattern, case.length, case.length)
    return Implementation("sdpa", lambda q, k, v: attention(q, k, v, attn_mask=mask), orders)


def flex(case: Case) -> Implementation | str:
    """Build compiled FlexAttention (Dong et al. 2024), or tell why not. On a CPU: forward only."""
    pattern = case.parse()
    if isinstance(pattern, ScoreDependentPattern):
        return f"{pattern!r} is no mask"
    if find_spec("torch.nn.attention.flex_attention") is None:
        return "this PyTorch has no FlexAttention"
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def allow(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        return pattern.allowed(query, key)

    try:
        with warnings.catch_warnings():
            # The mask is made once, outside of what is timed.
            warnings.filterwarnings("ignore", _SLOW_MASK, UserWarning)
            blocks = create_block_mask(allow, None, None, case.length, case.length, device="cpu")
    except (RuntimeError, ValueError) as error:
        return brief(error)
    # What earlier cases compiled counts against a limit, beyond which nothing is compiled.
    torch.compiler.reset()
    compiled = torch.compile(flex_attention, dynamic=False)

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = compiled(q, k, v, block_mask=blocks)
        assert isinstance(out, Tensor)  # no log-sum-exp was asked for
        return out

    return Implementation("flex", forward, ("forward",))


def local_attention(case: Case) -> Implementation | str:
    """Build the package local-attention, or tell why not. Takes single windows only."""
    window = _window(case.parse())
    if window is None:
        return "takes a single window only"
    before, is_causal = window
    if case.length % before and not is_causal:
        return f"needs a length that the window {before} divides"
    if find_spec("local_attention") is None:
        return "not installed: pip install local-attention"
    module = import_module("local_attention").LocalAttention(
        window_size=before,
        causal=is_causal,
        look_backward=1,
        look_forward=0 if is_causal else 1,
        exact_windowsize=True,
        use_rotary_pos_emb=False,
        autopad=is_causal,
    )
    return Implementation("local-attention", module, ORDERS)


def _window(pattern: ResolvedPattern) -> tuple[int, bool] | None:
    """Tell the width of a pattern that is one window, and whether it is causal."""
    terms = pattern.terms()
    before = terms[0].before if len(terms) == 1 else None
    if not before:
        return None
    if terms[0] == MaskTerm(before=before, after=0):
        return before, True
    if terms[0] == MaskTerm(before=before, after=before):
        return before, False
    return None


PEERS: dict[str, Callable[[Case], Implementation | str]] = {
    "sdpa": sdpa,
    "flex": flex,
    "local-attention": local_attention,
}


def build_implementation(name: str, case: Case) -> Implementation | Skipped:
    """Build one implementation.

    Args:
        name: ``regard`` or one of `PEERS`.
        case: What it is to compute.

    Returns:
        The implementation, or why there is none.
    """
    found = ours(case) if name == "regard" else PEERS[name](case)
    return skip(name, case, found) if isinstance(found, str) else found


def skip(name: str, case: Case, reason: str) -> Skipped:
    """Note that an implementation was left out of a case."""
    return Skipped(side=name, pattern=case.pattern, length=case.length, reason=reason)


def brief(error: Exception) -> str:
    """Write the first line of an error, at most 100 characters."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:100]
