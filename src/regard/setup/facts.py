"""The facts that settings depend on: of the data, the weights to start from, the machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import torch

from regard.data.readers.audio import LogMelConfig
from regard.setup.config import ForecastConfig, RunConfig
from regard.training.device import choose_device, finish_work
from regard.training.precision import has_fast_bf16

_TIMED_SIZE = 1024  # of the matrices whose product is timed
_TIMED_PRODUCTS = 4
SOURCE_LIMITS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Longest sources that a model may read, in tokens."""


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of the data of a run.

    Args:
        num_chars: Characters to learn from, or an equivalent amount; decides the preset.
        num_tokens: Patches or rows to learn from, where no text is read.
        num_read_chars: Characters that are read in one pass, the mean of both sides, where sources
            are much longer than targets; 0 is `num_chars`.
        languages: Codes such as ``en-de``; empty where there are none or they are unknown.
        labels: Label names, in alphabetical order or that of their columns.
        multi_label: Whether a text may have several labels, or none.
        mean: Mean of each channel or feature; empty where there are none.
        std: Standard deviation of each channel or feature.
        model: Dimensions of the model that follow from the data, by name.
        audio: How recordings become frames; None where there are none.
        forecast: What is forecast; None where nothing is.
    """

    num_chars: int
    num_tokens: int = 0
    num_read_chars: int = 0
    languages: str = ""
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    model: dict[str, Any] = {}
    audio: LogMelConfig | None = None
    forecast: ForecastConfig | None = None


class DataDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What a report on data says beyond the summary.

    Args:
        fields: Plain values by name.
        lines: The same as lines, a short title and the text each.
        num_near_duplicates: Rows of text that differ from another only in punctuation and the like.
    """

    fields: dict[str, Any] = {}
    lines: list[tuple[str, str]] = []
    num_near_duplicates: int = 0


class LongSources(NamedTuple):
    """Sources that may be long, with what is written for them.

    Args:
        sources: One a row.
        targets: One a row.
        beginnings: What sources begin with that all of their text should see, such as questions.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    beginnings: Sequence[str] = ()


class Pretrained(msgspec.Struct, frozen=True, kw_only=True):
    """Trained weights that a run starts from.

    Args:
        config: The defaults of the task, changed to the settings of the weights.
        parts: Folders of the trained ``encoder`` and ``decoder`` of a new encoder-decoder; empty
            where a whole model is trained further.
        prefixes: What sources begin with, by the names that a published folder gives its tasks,
            such as translation_en_to_de.
    """

    config: RunConfig
    parts: Mapping[str, str] = {}
    prefixes: Mapping[str, str] = {}


class SourceLengths(msgspec.Struct, frozen=True, kw_only=True):
    """Lengths of sources that may be long, such as documents, and of their targets, in tokens.

    Args:
        usual: Length of the source that a token is in, on average: the sum of squared lengths over
            the sum of lengths, to which the cost of full attention for a token is proportional.
        longest: Length of the longest source.
        longest_target: Length of the longest target.
        beginning: First tokens that all others should see.
        covered: Fraction of all tokens that are within the first tokens of their source, by the
            number of these, such as 64; without one, all are.
    """

    usual: float
    longest: int
    longest_target: int
    beginning: int = 1
    covered: Mapping[int, float] = {}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a run.

    Args:
        data: Facts of the data.
        paths: Where a resumed run finds the data, by setting, such as ``path`` and ``valid``;
            empty for the embedded corpus.
        sha256: Hash of the data.
        vocab_size: Number of token ids; 0 where no text is read.
        num_tokens: Estimated tokens to be predicted in one pass over the data, or the mean of both
            sides where sources are much longer.
        sources: Lengths of sources that may be long; None for other data.
        pretrained: The weights to start from; None for random weights.
        first_id: Token that every output begins with, where a vocabulary of many languages has one.
    """

    data: DataFacts
    paths: Mapping[str, str] = {}
    sha256: str = ""
    vocab_size: int = 0
    num_tokens: int = 0
    sources: SourceLengths | None = None
    pretrained: Pretrained | None = None
    first_id: int | None = None

    @property
    def has_whole_model(self) -> bool:
        """Whether a whole model is trained further, so that its sizes are given."""
        return self.pretrained is not None and not self.pretrained.parts


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine of a run.

    Args:
        has_fast_bf16: Whether the device multiplies bfloat16 matrices in hardware.
        flops: Floating-point operations a second of a matrix product on the device, by precision.
        device: What computes: ``cpu``, or a GPU, ``cuda`` or ``cuda:N``.
    """

    has_fast_bf16: bool
    flops: Mapping[str, float]
    device: str = "cpu"


def inspect_machine(name: str = "auto") -> Machine:
    """Return the device, and the speed of a matrix product there in the types that training uses.

    Args:
        name: Of the device: auto, cpu, cuda or cuda:N.

    Raises:
        ConfigError: The machine has no such device.
    """
    device = choose_device(name)
    is_fast = has_fast_bf16(device)
    dtypes = {"float32": torch.float32} | ({"bf16": torch.bfloat16} if is_fast else {})
    flops = {}
    for precision, dtype in dtypes.items():
        matrix = torch.ones(_TIMED_SIZE, _TIMED_SIZE, dtype=dtype, device=device)
        product = partial(torch.mm, matrix, matrix)
        product()  # the first is slower
        finish_work(device)
        start = time.perf_counter()
        for _ in range(_TIMED_PRODUCTS):
            product()
        finish_work(device)
        seconds = time.perf_counter() - start
        flops[precision] = 2 * _TIMED_SIZE**3 * _TIMED_PRODUCTS / seconds
    device_name = device.type if name == "auto" else name
    return Machine(has_fast_bf16=is_fast, flops=flops, device=device_name)
