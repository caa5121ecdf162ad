"""Which method computes attention: the one place that chooses, by one rule from facts.

`attend` asks with its tensors, the prediction of memory with sizes alone. A call is computed by one
`AttentionMethod`; a term of a blockwise call has a `FirstOrder` of its own for its value and first
derivative. On a GPU one kernel computes value and first derivative of a whole call where it can.
All methods give the same numbers and derivatives of every order.

A method that is slower than what the call could expect gives a warning, once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from enum import Enum
from functools import cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from regard.attention.backends import flex
from regard.attention.backends.band_shortcut import has_memory
from regard.attention.backends.cpu_kernels import Fused, instructions
from regard.attention.backends.gpu_kernels import BandKernels
from regard.attention.backends.sdpa import SdpaBackend
from regard.attention.biases import ALWAYS_FINITE
from regard.attention.exporting import is_recording
from regard.attention.options import AttentionOptions
from regard.attention.patterns import Blocks, Hierarchical
from regard.attention.patterns.base import MaskPattern, ResolvedPattern, ScoreDependentPattern
from regard.attention.patterns.mask_algebra import MaskTerm
from regard.attention.readable import has_data
from regard.attention.scores import KNOWN_SCORES

DENSE_BELOW = 512 * 512
"""Pairs of a query and a key below which the definition is the fastest method."""
DENSE_BELOW_KERNELS = 128 * 128
"""The same where the kernels apply; the second derivative is not slower from there either."""


class AttentionMethod(Enum):
    """How a call is computed."""

    DENSE = "dense"
    """By the definition: all scores at once (`dense.py`)."""
    BLOCKWISE = "blockwise"
    """Block by block, in memory linear in the length (`blockwise/`)."""
    SDPA = "sdpa"
    """By PyTorch's own attention on a GPU; blockwise above the first order (`backends/gpu.py`)."""
    FLEX = "flex"
    """The same by FlexAttention (`backends/flex/`)."""
    COMPILED = "compiled operator"
    """Blockwise, as one operator of a graph (`backends/compiled_operator.py`)."""
    BLOCKWISE_SPARSE_WEIGHTS = "blockwise with sparse weights"
    """Blockwise; the weights as a sparse tensor (`weights.py`)."""
    TOP_K = "top-k"
    """By all scores (`patterns/top_k.py`)."""
    HIERARCHICAL = "hierarchical"
    """Level by level (`patterns/hierarchical.py`)."""
    HIERARCHICAL_DENSE = "hierarchical, by all pairs"
    """The same by its definition: a mask of pairs has other averages for every query."""


class FirstOrder(Enum):
    """How value and first derivative of one term of a blockwise call are computed."""

    CPU_KERNELS = "cpu kernels"
    """C++ (`backends/cpu_kernels`)."""
    GPU_KERNELS = "gpu kernels"
    """Triton (`backends/gpu_kernels`), with the second derivative."""
    SDPA = "sdpa"
    """PyTorch's own fused attention (`backends/sdpa.py`)."""
    FLASH = "tiled flash"
    """PyTorch's operators, in place, one block at a time (`backends/tiled_flash.py`)."""
    RECURSION = "recursion"
    """The differentiable block function, which computes all higher derivatives (`blockwise/`)."""


@dataclass(frozen=True)
class GpuFacts:
    """What the choice of a kernel for a GPU depends on.

    Args:
        sdpa_terms: Patterns, of one term, that PyTorch's own attention computes.
        flex_applies: Whether FlexAttention computes the call.
        flex_refusal: What it does not take, where it could be asked.
    """

    sdpa_terms: tuple[MaskTerm, ...] = ()
    flex_applies: bool = False
    flex_refusal: str | None = None


@dataclass(frozen=True)
class AttentionFacts:
    """What the choice of a method depends on.

    Args:
        num_queries: 0 or more.
        num_keys: 0 or more.
        kernels_apply: Whether the kernels on the CPU can read q, k and v.
        is_plain: Whether scores are scaled dot products, without soft cap, bias and dropout.
        is_compilable: Whether score and bias are what the compiled operator takes.
        gpu: Of kernels for a GPU, elsewhere none.
        mask_shape: Shape of the mask, ``[batch, heads, queries, keys]`` or 1 each; None without
            one.
        has_key_positions: Whether keys are at other positions than 0, 1, ...
        returns_weights: Whether the weights are asked for.
        returns_lse: Whether the log-sum-exp is asked for.
        is_compiling: Whether ``torch.compile`` traces.
        needs_definition: Whether the definition alone serves: where there is nothing to compute,
            where tensors have no numbers (on the meta device, or fake), for weights in a
            `torch.func` transform, which has no sparse tensors, and where operators are recorded,
            as by ``torch.export``, whose program has a dynamic length and runs without this
            package.
    """

    num_queries: int
    num_keys: int
    kernels_apply: bool
    is_plain: bool = True
    is_compilable: bool = True
    gpu: GpuFacts = field(default_factory=GpuFacts)  # as in `AttentionOptions`
    mask_shape: tuple[int, ...] | None = None
    has_key_positions: bool = False
    returns_weights: bool = False
    returns_lse: bool = False
    is_compiling: bool = False
    needs_definition: bool = False

    @property
    def num_pairs(self) -> int:
        """Pairs of a query and a key."""
        return self.num_queries * self.num_keys

    @property
    def has_pair_mask(self) -> bool:
        """Whether a mask differs between heads or queries, which segments cannot express."""
        return self.mask_shape is not None and self.mask_shape[1:3] != (1, 1)


def collect_facts(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    options: AttentionOptions,
    *,
    returns_weights: bool,
    returns_lse: bool,
) -> AttentionFacts:
    """Return the facts of a call; q, k, v are ``[batch, heads or kv_heads, length, dim]``."""
    is_compiling = torch.compiler.is_compiling()
    return AttentionFacts(
        num_queries=q.shape[2],
        num_keys=k.shape[2],
        kernels_apply=not is_compiling and Fused.takes((q, k, v)),
        is_plain=options.is_plain,
        is_compilable=_is_compilable(options),
        gpu=_collect_gpu_facts(q, k, v, options),
        mask_shape=None if options.mask is None else tuple(options.mask.shape),
        has_key_positions=options.key_positions is not None,
        returns_weights=returns_weights,
        returns_lse=returns_lse,
        is_compiling=is_compiling,
        needs_definition=is_recording()
        or (returns_weights and _is_transformed())
        or (not is_compiling and (0 in (q.numel(), k.numel(), v.numel()) or not has_data(q))),
    )


_SDPA_TERMS = (MaskTerm(), MaskTerm(after=0))


def _is_compilable(options: AttentionOptions) -> bool:
    """Return whether the compiled operator takes score and bias."""
    return isinstance(options.score, KNOWN_SCORES) and (
        options.bias is None or isinstance(options.bias, (Tensor, *ALWAYS_FINITE))
    )


def computes_on_gpu(q: Tensor) -> bool:
    """Return whether kernels for a GPU take a tensor of any shape."""
    return q.is_cuda


def _collect_gpu_facts(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions) -> GpuFacts:
    """Return what kernels for a GPU take of a call, ``[batch, heads, length, dim]``."""
    if not computes_on_gpu(q) or _is_transformed():
        return GpuFacts()  # for transforms and dual numbers the kernels have no rule
    terms = _SDPA_TERMS if options.is_plain else ()
    sdpa_terms = tuple(term for term in terms if SdpaBackend.takes(term, q, k, v, options))
    if torch.compiler.is_compiling():
        return GpuFacts(sdpa_terms)
    refusal = flex.refusal(q, v, options)
    return GpuFacts(sdpa_terms, refusal is None, refusal)


def _is_transformed() -> bool:
    """Return whether `torch.func` transforms, or dual numbers may be among the tensors."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def has_few_scores(q: Tensor, k: Tensor) -> bool:
    """Return whether the definition computes a call with fewer scores than the keys have numbers.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
    """
    is_dense = q.shape[2] == 1 or q.shape[2] * k.shape[2] < DENSE_BELOW_KERNELS
    return is_dense and q.shape[1] * q.shape[2] < k.shape[1] * k.shape[3]


def choose_method(pattern: ResolvedPattern, facts: AttentionFacts) -> AttentionMethod:
    """Choose the method of a call by a pattern that does not depend on the length."""
    if isinstance(pattern, ScoreDependentPattern):
        return _choose_by_score(pattern, facts)
    if _takes_definition(pattern, facts):
        return AttentionMethod.DENSE
    if facts.returns_weights:
        pairs = pattern.count_pairs(facts.num_queries, facts.num_keys).attended
        is_sparse = pairs < facts.num_pairs // 4
        return AttentionMethod.BLOCKWISE_SPARSE_WEIGHTS if is_sparse else AttentionMethod.DENSE
    return _choose_for_many_pairs(pattern, facts)


def _choose_by_score(pattern: ScoreDependentPattern, facts: AttentionFacts) -> AttentionMethod:
    """Choose the method of a pattern that depends on the scores."""
    if not isinstance(pattern, Hierarchical):
        return AttentionMethod.TOP_K
    has_rows = facts.mask_shape is not None and facts.mask_shape[2] > 1
    return AttentionMethod.HIERARCHICAL_DENSE if has_rows else AttentionMethod.HIERARCHICAL


def _takes_definition(pattern: MaskPattern, facts: AttentionFacts) -> bool:
    """Return whether the definition alone serves a call, or is the fastest method."""
    if facts.needs_definition or facts.has_key_positions:
        # Before a length is compared, which fixes it in an exported program.
        return True
    if facts.num_queries == 1:
        return True
    # A compiled graph holds on one side of all that it compared: there one comparison is enough.
    if not facts.is_compiling:
        if _is_by_sdpa(pattern, facts):
            return False  # one kernel, of any size
        if facts.num_pairs < DENSE_BELOW_KERNELS:
            return True
    return facts.num_pairs < dense_below(pattern, facts)


def _choose_for_many_pairs(pattern: ResolvedPattern, facts: AttentionFacts) -> AttentionMethod:
    """Choose among the methods that hold no scores of all pairs."""
    if _is_by_sdpa(pattern, facts):
        return AttentionMethod.SDPA
    if facts.gpu.flex_applies:
        return AttentionMethod.FLEX
    if facts.gpu.flex_refusal is not None:
        warn_once(
            "attention on this GPU is computed block by block, which is slower: FlexAttention does "
            f"not take {facts.gpu.flex_refusal}."
        )
    return AttentionMethod.COMPILED if _is_compiled(pattern, facts) else AttentionMethod.BLOCKWISE


def _is_by_sdpa(pattern: ResolvedPattern, facts: AttentionFacts) -> bool:
    """Return whether PyTorch's own attention computes the call on a GPU."""
    if not facts.gpu.sdpa_terms or facts.returns_lse or facts.returns_weights:
        return False
    terms = pattern.terms()
    return len(terms) == 1 and terms[0] in facts.gpu.sdpa_terms


def _is_compiled(pattern: ResolvedPattern, facts: AttentionFacts) -> bool:
    """Return whether a graph is compiled that can hold the call as one operator."""
    if not (facts.is_compiling and facts.is_compilable) or facts.returns_lse:
        return False
    return type(pattern) is Blocks or pattern.to_text() is not None


def dense_below(pattern: ResolvedPattern, facts: AttentionFacts) -> int:
    """Return the number of pairs below which the definition is the fastest method.

    FlexAttention has the higher one: to compile it takes seconds.
    """
    if _is_by_sdpa(pattern, facts):
        return DENSE_BELOW_KERNELS  # in a graph: cuDNN would make a plan for each short length
    is_by_kernels = (
        (facts.kernels_apply, facts.is_plain, facts.has_pair_mask, facts.returns_weights)
        == (True, True, False, False)
        and isinstance(pattern, MaskPattern)
        and all(term.is_band for term in pattern.terms())
    )
    return DENSE_BELOW_KERNELS if is_by_kernels else DENSE_BELOW


def choose_first_order(
    term: MaskTerm,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    options: AttentionOptions,
    *,
    is_first: bool,
    is_alone: bool,
    returns_lse: bool,
) -> FirstOrder:
    """Choose how value and first derivative of one term of a blockwise call are computed.

    Args:
        term: Term of the pattern.
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        options: All else; a mask is one of pairs.
        is_first: Whether no other term takes pairs away from this one.
        is_alone: Whether the pattern has no other term.
        returns_lse: Whether a derivative of the log-sum-exp may be asked for.

    Returns:
        The fastest that applies.
    """
    if not options.is_plain:
        return FirstOrder.RECURSION
    if term.is_band and is_first and options.mask is None:
        kernels = _choose_kernels(q, k, v, options)
        if kernels is not None:
            return kernels
    is_sdpa = is_alone and not returns_lse and SdpaBackend.takes(term, q, k, v, options)
    return FirstOrder.SDPA if is_sdpa else FirstOrder.FLASH


def _choose_kernels(
    q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions
) -> FirstOrder | None:
    """Return whose kernels compute a band of ``[batch, heads, length, dim]``; None where none."""
    limits = (options.lengths, *(options.segments or ()))
    if not all(limit is None or has_memory(limit) for limit in limits):
        return None  # `torch.vmap` over them
    if Fused.takes((q, k, v)):
        return FirstOrder.CPU_KERNELS
    if BandKernels.takes(q, k, v):
        return FirstOrder.GPU_KERNELS
    if q.device.type == "cpu" and instructions() is None:
        warn_once(
            "attention's kernels were not compiled, so attention takes about twice the time.  "
            "Install regard again where there is a C++ compiler."
        )
    return None


@cache
def warn_once(message: str) -> None:
    """Warn that a slower method is taken, once in a process."""
    warnings.warn(message, stacklevel=3)
