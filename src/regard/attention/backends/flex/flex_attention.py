"""Attention by FlexAttention (Dong et al. 2024), which is differentiable once.

Pattern, masks, score and bias become functions of a pair that PyTorch compiles into one kernel for
value and one for the gradient, for a GPU, for all lengths. Cost: that of the allowed blocks of 128
queries and 128 keys; nothing of the size of all pairs is held. The first call of a kind compiles,
which takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from regard.attention.backends.flex.block_mask import MaskSizes, block_mask
from regard.attention.backends.flex.score_change import change_score, is_bias, is_score, masks_of
from regard.attention.backends.sdpa import fits_grid
from regard.attention.biases import Bias
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import MaskPattern
from regard.attention.scores import TransformerXL

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_FEWEST_NUMBERS = 16  # of a query and of a value, for products of its kernels
_MOST_DISTANCES = 1024  # of a table, of which a row is held for each query
_WIDE = 256  # bytes of a query or a value: of more, tiles may not fit on every chip
_MUCH_SHARED_MEMORY = 160_000  # bytes: compute capability 8.0 and 9.0 have more, 8.6 and 8.9 less
_MOST_KERNELS = 64  # compiled: kinds of pattern, score, bias, masks, type, heads and dimension


def refusal(q: Tensor, v: Tensor, options: AttentionOptions) -> str | None:
    """Return what of a call FlexAttention cannot express; None where it can.

    Args:
        q: ``[batch, heads, queries, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        options: All but the pattern, which must be one of pairs.
    """
    score, bias = options.score, options.bias
    num_distances = score.relative.shape[1] if isinstance(score, TransformerXL) else 0
    has_positions = options.key_positions is not None or options.query_positions is not None
    fewest = min(q.shape[-1], v.shape[-1])
    refusals = {
        f"the score {type(score).__name__}": not is_score(score),
        f"a table of more than {_MOST_DISTANCES} distances": num_distances > _MOST_DISTANCES,
        f"the bias {type(bias).__name__}": not is_bias(bias),
        "dropout of weights": options.dropout > 0,
        "positions of keys": has_positions,
        f"heads of fewer than {_FEWEST_NUMBERS} dimensions": fewest < _FEWEST_NUMBERS,
        f"numbers of {q.dtype}": q.dtype not in _DTYPES,
        "as many rows or heads": not fits_grid(q),
        "gradients of a bias or a table in a fixed order": _adds_in_any_order(q, options),
    }
    for refusal, applies in refusals.items():
        if applies:
            return refusal
    return _FAILURES.get(_kind(q, v, options))


def _adds_in_any_order(q: Tensor, options: AttentionOptions) -> bool:
    """Return whether a gradient that must repeat its bits would be added as programs end.

    What a kernel reads for each pair, a bias or Transformer-XL's table of distances, has a gradient
    by atomic additions.

    Args:
        q: ``[batch, heads, queries, dim]``, from which that table is made.
        options: Of the call.
    """
    if not (torch.are_deterministic_algorithms_enabled() and torch.is_grad_enabled()):
        return False
    is_table = isinstance(options.score, TransformerXL)
    num_of_score = len(options.score.tensors())
    read = (q, *options.tensors()) if is_table else options.tensors()[num_of_score:]
    return any(tensor.requires_grad for tensor in read)


_Kind = tuple[torch.device, torch.dtype, int, int, type, type]
_FAILURES: dict[_Kind, str] = {}
"""Why no kernel was made, so that this is tried once."""


def _kind(q: Tensor, v: Tensor, options: AttentionOptions) -> _Kind:
    """Return what decides whether there are kernels for ``[batch, heads, length, dim]``."""
    score, bias = type(options.score), type(options.bias)
    return q.device, q.dtype, q.shape[-1], v.shape[-1], score, bias


def remember_failure(error: RuntimeError, q: Tensor, v: Tensor, options: AttentionOptions) -> bool:
    """Return whether an error says that no kernel was made; then `refusal` says so from now on.

    Args:
        error: Any, such as a missing compiler, or too little memory on the chip.
        q: ``[batch, heads, queries, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        options: Of the call.
    """
    from torch._dynamo.exc import TorchDynamoException

    if not isinstance(error, TorchDynamoException):
        return False
    cause = getattr(error, "inner_exception", error)
    reason = str(cause).strip().partition("\n")[0]
    _FAILURES[_kind(q, v, options)] = f"this call here ({type(cause).__name__}: {reason})"
    return True


@lru_cache(maxsize=1)
def compiled() -> Callable[..., Any]:
    """Return FlexAttention, which is compiled when called: once for all lengths of a kind."""
    from torch.nn.attention.flex_attention import flex_attention

    # Not compiled it would hold all scores: with a whole graph PyTorch raises instead.
    compile_it: Any = partial(_compile, dynamic=True, fullgraph=True)
    if "recompile_limit" in signature(torch.compile).parameters:
        return compile_it(flex_attention, recompile_limit=_MOST_KERNELS)

    # PyTorch 2.11 has one limit of a function, whoever compiles it: hence a function of our own.
    def attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Any:
        return flex_attention(q, k, v, **options)  # [batch, heads, queries, value_dim]

    kernels = compile_it(attention)

    def limited(*tensors: Tensor, **options: Any) -> Any:
        config = torch._dynamo.config
        usual_limit = config.recompile_limit
        config.recompile_limit = _MOST_KERNELS  # `config.patch` takes as long as the launch
        try:
            return kernels(*tensors, **options)
        finally:
            config.recompile_limit = usual_limit

    return limited


def _compile(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    from torch._dynamo.exc import TorchDynamoException

    try:
        return torch.compile(function, **options)
    except RuntimeError as error:  # not for this version of Python, or without its lock
        raise TorchDynamoException(str(error)) from error


def _kernel_options(q: Tensor, v: Tensor, options: AttentionOptions) -> dict[str, int] | None:
    """Return how many tiles a kernel loads ahead; None leaves that to PyTorch, which takes three.

    They lie in the chip's memory. Of float32 with 128 numbers three took 145 of the 99 KiB of
    compute capability 8.6 and 8.9, and two 113.

    Args:
        q: ``[batch, heads, queries, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        options: Of the call.
    """
    num_stages = _num_stages(options.bias)
    kernel_options = {} if num_stages is None else {"num_stages": num_stages}
    is_wide = q.dtype.itemsize * max(q.shape[-1], v.shape[-1]) > _WIDE
    if is_wide and num_stages != 1 and shared_memory(q.device) < _MUCH_SHARED_MEMORY:
        kernel_options["fwd_num_stages"] = 1
    return kernel_options or None


def _num_stages(bias: Bias | Tensor | None) -> int | None:
    """Return how many tiles a kernel loads ahead that reads a bias; None leaves that to PyTorch.

    What is read for each of their pairs is loaded with them: 64 kB for float32 and 128 x 128 pairs.
    With three, a bias by distance needed 240 kB of the 227 that an H100 has.
    """
    if bias is None or (isinstance(bias, Tensor) and bias.dtype.itemsize < 4):
        return None  # smaller numbers are not loaded ahead
    return 1 if isinstance(bias, Tensor) else 2  # what a tensor forbids is read, too


def shared_memory(device: torch.device) -> float:
    """Return the bytes of a chip's memory that a kernel can have; infinity where none is known."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pattern: MaskPattern,
    options: AttentionOptions,
    returns_lse: bool = False,
) -> tuple[Tensor, ...]:
    """Compute a call for which `refusal` is None.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: Which pairs may attend.
        options: All else.
        returns_lse: Compute the log-sum-exp too.

    Returns:
        The output ``[batch, heads, queries, value_dim]``, and the log-sum-exp ``[batch, heads,
        queries]`` where it is asked for.

    Raises:
        TorchDynamoException: No kernel was made; `remember_failure` takes it.
    """
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch.nn.attention.flex_attention import AuxRequest

    sizes = MaskSizes(q.shape[2], k.shape[2], options.query_offset)
    mask = block_mask(pattern.terms(), sizes, masks_of(options), q.device)
    q, k, change = change_score(q, k, options)
    try:
        result = compiled()(
            q,
            k,
            v,
            score_mod=change,
            block_mask=mask,
            enable_gqa=q.shape[1] != k.shape[1],
            return_aux=AuxRequest(lse=True) if returns_lse else None,
            kernel_options=_kernel_options(q, v, options),
        )
    except FailOnRecompileLimitHit as error:
        raise TorchDynamoException(f"more than {_MOST_KERNELS} kinds of calls") from error
    return (result[0], result[1].lse) if returns_lse else (result,)
