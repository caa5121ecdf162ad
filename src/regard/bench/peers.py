"""The implementations that ``regard bench attention`` compares: regard's and other libraries'.

Each computes the same function of the same q, k and v. One that cannot compute a case is skipped,
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
from regard.bench import PEERS

Order = Literal["forward", "gradient", "hvp"]
ORDERS: tuple[Order, ...] = ("forward", "gradient", "hvp")

_SLOW_MASK = "There is a performance drop because we have not yet implemented the batching rule for"
_LARGEST_MASK = 2**29  # pairs; from a boolean mask PyTorch makes one of numbers as well


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attention to compute: batch 1, self-attention.

    Args:
        pattern: Pattern as text, for `parse_pattern`.
        length: Number of queries and of keys, 1 or more.
        num_heads: Number of heads, 1 or more.
        dim: Size of a query, of a key and of a value, 1 or more.
        dtype: Type of q, k and v.
        is_decoder: Whether only keys at or before the query are allowed.
    """

    pattern: str
    length: int
    num_heads: int = 8
    dim: int = 64
    dtype: Literal["float32", "bf16"] = "float32"
    is_decoder: bool = True

    def parse(self) -> ResolvedPattern:
        """Return the pattern, resolved for the length."""
        pattern = parse_pattern(self.pattern, is_decoder=self.is_decoder)
        return pattern.resolve(self.length, self.length)

    def draw(self, count: int, *, seed: int) -> tuple[Tensor, ...]:
        """Return `count` tensors of normal numbers, each ``[1, heads, length, dim]``."""
        generator = torch.Generator().manual_seed(seed)
        shape = (1, self.num_heads, self.length, self.dim)
        dtype = torch.bfloat16 if self.dtype == "bf16" else torch.float32
        return tuple(torch.randn(shape, generator=generator).to(dtype) for _ in range(count))


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """An implementation that was skipped in a case.

    Args:
        side: Name of the implementation.
        pattern: Pattern of the case.
        length: Length of the case.
        reason: Why it was skipped.
    """

    side: str
    pattern: str
    length: int
    reason: str


@dataclass(frozen=True)
class Implementation:
    """One implementation of a case.

    Args:
        name: Name in the table.
        forward: Function from q, k and v to the output, all ``[1, heads, length, dim]``.
        orders: Derivatives that it can compute.
    """

    name: str
    forward: Callable[[Tensor, Tensor, Tensor], Tensor]
    orders: tuple[Order, ...]


class Operands:
    """The tensors of a case: q, k, v, and the weights and directions of its derivatives.

    Args:
        case: The case, whose shape and type they have.
    """

    def __init__(self, case: Case) -> None:
        self.inputs = tuple(x.requires_grad_() for x in case.draw(3, seed=1))
        self.weight, *self.directions = case.draw(4, seed=2)


@dataclass(frozen=True)
class Computation:
    """A callable that computes value, gradient or Hessian-vector product of an implementation.

    The function is the inner product of the output with fixed weights; derivatives are with respect
    to q, k and v. "gradient" includes the forward pass, "hvp" includes the gradient.

    Args:
        implementation: The implementation.
        operands: The tensors of the case.
        order: Forward pass, gradient or Hessian-vector product.
    """

    implementation: Implementation
    operands: Operands
    order: Order

    def __call__(self) -> tuple[Tensor, ...]:
        """Return the output, or the gradient or product for q, k and v.

        Each is ``[1, heads, length, dim]``.
        """
        inputs = self.operands.inputs
        if self.order == "forward":
            with torch.no_grad():
                q, k, v = (x.detach() for x in inputs)
                return (self.implementation.forward(q, k, v),)
        q, k, v = inputs
        value = (self.implementation.forward(q, k, v) * self.operands.weight).sum()
        is_hvp = self.order == "hvp"
        gradient = torch.autograd.grad(value, inputs, create_graph=is_hvp)
        if not is_hvp:
            return gradient
        return torch.autograd.grad(gradient, inputs, self.operands.directions)


def sdpa(case: Case) -> Implementation | str:
    """Return PyTorch's scaled_dot_product_attention, or why it cannot compute a case.

    The mask is built once, before the timing. Its fast kernels have no second derivative.
    """
    pattern = case.parse()
    if isinstance(pattern, ScoreDependentPattern):
        return f"{pattern!r} is not a mask"
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
    """Return compiled FlexAttention (Dong et al. 2024), forward only, or why it cannot be used."""
    pattern = case.parse()
    if isinstance(pattern, ScoreDependentPattern):
        return f"{pattern!r} is not a mask"
    if find_spec("torch.nn.attention.flex_attention") is None:
        return "this PyTorch has no FlexAttention"
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def allow(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        return pattern.allowed(query, key)

    try:
        with warnings.catch_warnings():
            # The mask is built once, before the timing.
            warnings.filterwarnings("ignore", _SLOW_MASK, UserWarning)
            blocks = create_block_mask(allow, None, None, case.length, case.length, device="cpu")
    except (RuntimeError, ValueError) as error:
        return brief(error)
    # Earlier cases count towards the limit of recompilations.
    torch.compiler.reset()
    compiled = torch.compile(flex_attention, dynamic=False)

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = compiled(q, k, v, block_mask=blocks)
        return out if isinstance(out, Tensor) else out[0]  # a pair where more is asked for

    return Implementation("flex", forward, ("forward",))


def local_attention(case: Case) -> Implementation | str:
    """Return the package local-attention, for single windows, or why it cannot compute a case."""
    terms = case.parse().terms()
    before = terms[0].before if len(terms) == 1 else None
    is_causal = bool(before) and terms[0] == MaskTerm(before=before, after=0)
    if not before or not (is_causal or terms[0] == MaskTerm(before=before, after=before)):
        return "takes a single window only"
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


def build_implementation(name: str, case: Case) -> Implementation | Skipped:
    """Return one implementation, or why it is skipped.

    Args:
        name: ``regard`` or one of `PEERS`.
        case: The case to compute.
    """
    if name == "regard":
        pattern = case.parse()
        return Implementation("regard", lambda q, k, v: attend(q, k, v, pattern=pattern), ORDERS)
    implementation = PEERS[name](case)
    if isinstance(implementation, str):
        return skip(name, case, implementation)
    return implementation


def skip(name: str, case: Case, reason: str) -> Skipped:
    """Return the record of an implementation that was skipped in a case."""
    return Skipped(side=name, pattern=case.pattern, length=case.length, reason=reason)


def brief(error: Exception) -> str:
    """Return the first line of an error, at most 100 characters."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:100]
