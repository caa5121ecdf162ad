"""What settings are decided by: what the data says, the weights to start from, the machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import torch

from regard.data.readers.audio import LogMelConfig
from regard.setup.config import RunConfig
from regard.training.precision import has_fast_bf16

_TIMED_SIZE = 1024  # of the matrices whose product is timed
_TIMED_PRODUCTS = 4


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the data of a run says.

    Args:
        num_chars: Characters to learn from, or what weighs as much, by which sizes are chosen.
        num_tokens: Patches or rows to learn from, where no text is read.
        languages: Codes such as ``en-de``; empty where there are none or they are unknown.
        labels: Of a classifier, in alphabetical order.
        mean: Of each channel or feature; empty where there are none.
        std: Their standard deviation.
        model: Dimensions of the model that follow from the data, by name.
        audio: How recordings become frames; None where there are none.
    """

    num_chars: int
    num_tokens: int = 0
    languages: str = ""
    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    model: dict[str, Any] = {}
    audio: LogMelConfig | None = None


class Pretrained(msgspec.Struct, frozen=True, kw_only=True):
    """Trained weights that a run starts from.

    Args:
        config: The settings that come with them, over the defaults of the task.
        parts: Folders of the trained ``encoder`` and ``decoder`` of a new encoder-decoder; empty
            where a whole model is trained further.
    """

    config: RunConfig
    parts: Mapping[str, str] = {}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known when settings are decided.

    Args:
        data: What the data says.
        paths: Of the data by setting, such as ``path`` and ``valid``, where a resumed run finds it;
            empty for the embedded corpus.
        sha256: Of the data.
        vocab_size: Number of token ids; 0 where no text is read.
        num_tokens: Tokens to be predicted in one pass over the data, about.
        pretrained: The weights to start from; None where all are random.
    """

    data: DataFacts
    paths: Mapping[str, str] = {}
    sha256: str = ""
    vocab_size: int = 0
    num_tokens: int = 0
    pretrained: Pretrained | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to compute on.

    Args:
        has_fast_bf16: Whether bfloat16 products have hardware of their own.
        flops: Floating-point operations a second of a product of matrices, by precision.
    """

    has_fast_bf16: bool
    flops: Mapping[str, float]


def inspect_machine() -> Machine:
    """Look at the processor, and time a product of matrices in the types that training takes."""
    is_fast = has_fast_bf16(torch.device("cpu"))
    flops = {"float32": _product_flops(torch.float32)}
    if is_fast:
        flops["bf16"] = _product_flops(torch.bfloat16)
    return Machine(has_fast_bf16=is_fast, flops=flops)


def _product_flops(dtype: torch.dtype) -> float:
    matrix = torch.ones(_TIMED_SIZE, _TIMED_SIZE, dtype=dtype)
    matrix @ matrix  # the first is slower
    start = time.perf_counter()
    for _ in range(_TIMED_PRODUCTS):
        matrix @ matrix
    return 2 * _TIMED_SIZE**3 * _TIMED_PRODUCTS / (time.perf_counter() - start)
