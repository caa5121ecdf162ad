"""Which decoder computes the steps of a model, by its family, its device and a precision.

Transformers on a CPU decode by one call of C++ a step (`regard.generation.native`), on a GPU by one
CUDA graph a step (`regard.generation.graphs`); what these do not cover decodes through PyTorch's
operators, by the model itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

import torch
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.generation.native import (
    NativeCausalDecoder,
    NativeDecoder,
    library,
    why_through_operators,
)
from regard.generation.native.coverage import modules_of, why_not_covered
from regard.layers.recorded_attention import RecordedAttention
from regard.models.base.text_model import TextModel
from regard.settings.values import DecodingPrecision

if TYPE_CHECKING:
    from regard.generation.decoding import CausalDecoder, Seq2SeqDecoder
    from regard.models import Decoder, EncoderDecoder

M = TypeVar("M", bound=TextModel)


def seq2seq_decoder(
    model: EncoderDecoder[Any], precision: DecodingPrecision | None = None
) -> Seq2SeqDecoder[Any]:
    """Return what decodes a model fastest.

    Args:
        model: In evaluation mode. Some of its weights are copied and some are not: after a change
            of them make another decoder.
        precision: Type of the weights; None is the model's own.

    Raises:
        ConfigError: The model cannot be decoded in this precision.
    """
    reason = _why_operators(model, precision)
    if reason is None:
        return NativeDecoder(model, precision=_own_precision(model, precision))
    _check_precision(precision, reason)
    converted = _converted(model, precision)
    if not is_repeated_as_graph(model):
        return converted
    from regard.generation.graphs import GraphDecoder  # which a CPU never needs

    return GraphDecoder(converted)


def causal_decoder(model: Decoder, precision: DecodingPrecision | None = None) -> CausalDecoder:
    """Return what decodes a language model fastest; see `seq2seq_decoder`."""
    reason = _why_operators(model, precision)
    if reason is None:
        return NativeCausalDecoder(model, precision=_own_precision(model, precision))
    _check_precision(precision, reason)
    converted = _converted(model, precision)
    if not is_repeated_as_graph(model):
        return converted
    from regard.generation.graphs import GraphCausalDecoder

    return GraphCausalDecoder(converted)


def decoding_path(model: nn.Module, precision: DecodingPrecision | None = None) -> str:
    """Return in a line how a model writes: by the compiled decoder, or by operators and why."""
    reason = _why_operators(model, precision)
    if reason is None:
        return f"compiled decoder, {_own_precision(model, precision)}"
    if _is_on_gpu(model):
        reason = _why_no_graph(model)
        if reason is None:
            return f"CUDA graphs, {_own_precision(model, precision)}"
    return f"PyTorch's operators: {reason}"


def is_repeated_as_graph(model: nn.Module) -> bool:
    """Return whether a step of a model is repeated as a CUDA graph."""
    return _is_on_gpu(model) and _why_no_graph(model) is None


def default_precision(model: nn.Module, trained_in: str) -> DecodingPrecision | None:
    """Return the type of the weights that a model is decoded with where none is asked for.

    Args:
        model: Any model.
        trained_in: The precision of its training; any other text than bf16 for a published folder,
            whose outputs are those of ``transformers``.

    Returns:
        bf16 for a model that was trained in it, where the compiled decoder or CUDA graphs write and
        the processor or the GPU is fast in bf16; else None, the model's own.
    """
    if trained_in != "bf16":
        return None
    if is_repeated_as_graph(model):
        with torch.cuda.device(next(model.parameters()).device):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else None
    is_fast = library.is_fast_in_bf16() and _why_operators(model, "bf16") is None
    return "bf16" if is_fast else None


def _own_precision(model: nn.Module, precision: DecodingPrecision | None) -> DecodingPrecision:
    """Return the type of the weights in the compiled decoder; None is the model's own."""
    if precision is not None:
        return precision
    dtype = getattr(model, "compute_dtype", torch.float32)
    return "bf16" if dtype == torch.bfloat16 else "float32"


def _why_operators(model: nn.Module, precision: DecodingPrecision | None) -> str | None:
    """Return why a model decodes through operators; None where the compiled decoder does it.

    Raises:
        ConfigError: There is no such precision.
    """
    if precision is not None and precision not in get_args(DecodingPrecision):
        names = ", ".join(get_args(DecodingPrecision))
        raise ConfigError(f"`precision={precision}` is unknown: it is one of {names}.")
    dtype = getattr(model, "compute_dtype", torch.float32)
    if precision is None and dtype not in (torch.float32, torch.bfloat16):
        return f"the model computes in {str(dtype).removeprefix('torch.')}"
    return why_through_operators(model) or _why_watched(model)


def _why_watched(model: nn.Module) -> str | None:
    """Return why layers of a model have to be called one by one; None where they have not."""
    for module in modules_of(model):
        if module._forward_hooks or module._forward_pre_hooks:
            return "its layers have hooks"
        if isinstance(module, RecordedAttention) and module.on_attention is not None:
            return "its attention is recorded"
    return None


def _is_on_gpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == "cuda"


def _why_no_graph(model: nn.Module) -> str | None:
    """Return why a step of a model on a GPU is not repeated as a graph; None where it is."""
    return why_not_covered(model) or _why_watched(model)


def _check_precision(precision: DecodingPrecision | None, reason: str) -> None:
    if precision == "int8":
        raise ConfigError(
            f"`precision=int8` needs the compiled decoder: {reason}.  Take float32 or bf16."
        )


def _converted(model: M, precision: DecodingPrecision | None) -> M:
    """Return a model in a type, a copy where its own is another."""
    if precision is None:
        return model
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if model.compute_dtype == dtype and next(model.parameters()).dtype == dtype:
        return model
    converted = copy.deepcopy(model).to(dtype).eval()
    converted.compute_dtype = None
    return converted


D = TypeVar("D")
Make = Callable[[Any, DecodingPrecision | None], D]


@dataclass(eq=False)
class CurrentDecoder(Generic[D]):
    """The decoder of a model that may change: made again where weights or hooks did.

    A copy of it, and a pickle, begin without one.
    """

    _made: tuple[D, tuple[object, ...], list[Tensor]] | None = field(default=None, init=False)
    # The decoder, what it was made for, and the weights at that time, kept so that no others can
    # have their addresses.
    _lock: Lock = field(default_factory=Lock, init=False)

    def get(self, model: TextModel, precision: DecodingPrecision | None, make: Make[D]) -> D:
        """Return the decoder of a model in a precision, from ``make(model, precision)``."""
        path = _why_operators(model, precision), is_repeated_as_graph(model)
        key = (id(model), precision, *path, *_versions(model))
        with self._lock:
            made = self._made
            if made is None or made[1] != key:
                weights = [weight.detach() for weight in model.parameters()]
                self._made = made = make(model, precision), key, weights
        return made[0]

    @property
    def decoder(self) -> D | None:
        """The decoder that was made last; None before the first."""
        return None if self._made is None else self._made[0]

    def __deepcopy__(self, memo: dict[int, Any]) -> CurrentDecoder[D]:
        return CurrentDecoder()

    def __reduce__(self) -> tuple[type[CurrentDecoder[D]], tuple[()]]:
        return CurrentDecoder, ()


def decoder_of(
    model: EncoderDecoder[Any], precision: DecodingPrecision | None
) -> Seq2SeqDecoder[Any]:
    """Return what decodes a model, kept with the model and made again where its weights changed.

    Raises:
        ConfigError: The model cannot be decoded in this precision.
    """
    # In the module's own dictionary: a copy or a pickle of the model has it, too, without decoders.
    decoders: dict[DecodingPrecision | None, CurrentDecoder[Seq2SeqDecoder[Any]]]
    decoders = vars(model).setdefault("_decoders", {})
    return decoders.setdefault(precision, CurrentDecoder()).get(model, precision, seq2seq_decoder)


def _versions(model: nn.Module) -> list[tuple[int, int]]:
    """Return numbers that change with the weights of a model."""
    return [
        (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        for weight in model.parameters()
    ]
