"""One step of a Transformer's decoder as one call of C++, for float32, bf16 and int8 on the CPU.

It is compiled when the package is installed, where there is a C++ compiler (``hatch_build.py`` at
the root of the repository), and chosen by the processor's instruction set when first used. Models
that it does not cover, and other devices, decode through PyTorch's operators:
`why_through_operators` says why.
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.generation.native.compiled_decoder import (
        NativeCausalDecoder,
        NativeDecoder,
        NativeState,
    )
    from regard.generation.native.coverage import why_through_operators

import_lazily(__name__)

__all__ = [
    "NativeCausalDecoder",
    "NativeDecoder",
    "NativeState",
    "why_through_operators",
]
