"""Fused kernels for the CPU, in C++: value and first derivative of a band of dot products.

All else, and every higher derivative, is the recursion in `blockwise/`.

They are compiled when the package is installed, where there is a C++ compiler (``hatch_build.py``
at the root of the repository), and chosen by the processor's instruction set when first used.
Without them `tiled_flash.py` computes the same with PyTorch's operators, at half the speed or less.
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.attention.backends.cpu_kernels.fused import Fused
    from regard.attention.backends.cpu_kernels.loading import instructions

import_lazily(__name__)

__all__ = ["Fused", "instructions"]
