"""The compiled decoder: its functions, and the records that it reads (decoder.h)."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from regard.attention.backends import cpu_kernels
from regard.attention.backends.cpu_kernels import compiling, loading

if TYPE_CHECKING:
    from regard.settings.values import DecodingPrecision

_FOLDER = Path(__file__).parent
_HEADERS = Path(cpu_kernels.__file__).parent

PRECISIONS: dict[DecodingPrecision, int] = {"float32": 0, "int8": 1, "bf16": 2}
"""Types of the weights, with their numbers in packed.h."""

ACTIVATIONS = {
    "relu": 0,
    "gelu": 1,
    "gelu_tanh": 2,
    "silu": 3,
    "swiglu": 3,
    "geglu": 1,
    "geglu_tanh": 2,
}
"""Activations with their numbers in decoder.h; those with gates have the number of theirs."""

SELF_QKV, SELF_OUT, CROSS_Q, CROSS_KV, CROSS_OUT, INNER, OUTER = range(7)
"""Linear maps of a block, with their numbers in decoder.h."""

SELF_NORM, CROSS_NORM, FEED_FORWARD_NORM = range(3)
SELF_OUTPUT_NORM, CROSS_OUTPUT_NORM, FEED_FORWARD_OUTPUT_NORM, QUERY_NORM, KEY_NORM = range(3, 8)
"""Norms of a block, with their numbers in decoder.h."""

LONGEST_VECTOR = 16
"""Numbers that are read at once, at most: as many lie behind the last bias of a table."""

DONE, NO_MEMORY, OUT_OF_RANGE = 0, 1, 2  # what functions return
_I, _F, _P = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class Sizes(ctypes.Structure):
    """The `Sizes` of decoder.h."""

    _fields_ = (
        *((name, _I) for name in ("num_layers", "dim", "num_heads", "num_kv_heads", "head_dim")),
        *((name, _I) for name in ("hidden_dim", "vocab_size", "activation", "is_gated", "norm")),
        *((name, _I) for name in ("is_pre", "is_parallel", "reads_source", "rotary", "precision")),
        *((name, _F) for name in ("epsilon", "embedding_scale", "score_cap", "logit_cap")),
        *((name, ctypes.POINTER(_I)) for name in ("before", "after", "angles", "biases")),
    )


class Positions(ctypes.Structure):
    """The `Positions` of decoder.h."""

    _fields_ = (
        ("rows", _P),
        ("num_rows", _I),
        ("offset", _I),
        ("cosines", _P),
        ("sines", _P),
        ("num_angles", _I),
        ("biases", _P),
        ("bias_row", _I),
        ("bias_zero", _I),
    )


class NativeBeams(ctypes.Structure):
    """The `Beams` of decoder.h."""

    _fields_ = (
        *(
            (name, _I)
            for name in ("num", "beam", "room", "end_token", "closes_at_limit", "min_length")
        ),
        *((name, _P) for name in ("scores", "tokens", "lengths", "limits", "bars", "divisors")),
        *((name, _P) for name in ("by_length", "best", "origins", "written")),
    )


ALL_STEPS, CLOSED, SOME_DONE, NO_NUMBERS = range(4)
"""Why the steps of a beam search stopped, with their numbers in beams.h."""

_FUNCTIONS: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "regard_has_bf16": (ctypes.c_int, ()),
    "regard_model_new": (_P, (_P, _P)),
    "regard_model_free": (None, (_P,)),
    "regard_set_map": (ctypes.c_int, (_P, _I, _I, _I, _P, _P)),
    "regard_set_norm": (ctypes.c_int, (_P, _I, _I, _I, _P, _P, _I)),
    "regard_set_embedding": (ctypes.c_int, (_P, _I, _P, _P, _P, _F)),
    "regard_set_output": (ctypes.c_int, (_P, _P, _P)),
    "regard_set_copy": (ctypes.c_int, (_P, _P, _P, _P, _F, _F, _I)),
    "regard_state_new": (_P, (_P,)),
    "regard_state_free": (None, (_P,)),
    "regard_state_add_rows": (ctypes.c_int, (_P, _I)),
    "regard_state_join": (ctypes.c_int, (_P, _P)),
    "regard_state_add_sources": (ctypes.c_int, (_P, _P, _P, _I, _I, _P, _I)),
    "regard_state_read": (ctypes.c_int, (_P, _P, _P, _I, _I, _P, _I)),
    "regard_state_select": (ctypes.c_int, (_P, _P, _I)),
    "regard_state_bytes": (_I, (_P,)),
    "regard_state_step": (ctypes.c_int, (_P, _P, _P, _I, _P, _I, _P, _P, _P, _I)),
    "regard_state_search": (ctypes.c_int, (_P, _P, _P, _I, _I, _P, _P)),
}


@cache
def load_fastest() -> ctypes.CDLL | None:
    """Load the decoder of the best instruction set; None where none was compiled."""
    library = loading.load_first(_FOLDER, _HEADERS, "decoding is slower")
    if library is not None:
        declare(library)
    return library


def load(name: str) -> ctypes.CDLL | None:
    """Load the decoder of an instruction set; None where it cannot be used."""
    digest = compiling.digest_sources(_FOLDER, _HEADERS)
    library = loading.load_current(compiling.library_path(_FOLDER, name), digest)
    if library is not None:
        declare(library)
    return library


def is_fast_in_bf16() -> bool:
    """Return whether the decoder in use multiplies bf16 faster than float32."""
    library = load_fastest()
    return library is not None and library.regard_has_bf16() != 0


def declare(library: ctypes.CDLL) -> None:
    """Declare the types of the functions of a library."""
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def check(result: int) -> None:
    """Raise what a function of the library reports.

    Raises:
        MemoryError: Memory is short.
        IndexError: A token id or a row is out of range.
    """
    if result == NO_MEMORY:
        raise MemoryError("decoding: no memory for the keys and values of the rows")
    if result == OUT_OF_RANGE:
        raise IndexError("decoding: a token id or a row is out of range")
