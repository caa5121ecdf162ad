"""Triton kernels for a GPU: value, gradient and second derivative of a band of dot products.

They serve what FlexAttention does not: Hessian-vector products, and graphs of ``torch.compile``.
"""

from regard.attention.backends.gpu_kernels.shortcut import BandKernels

__all__ = ["BandKernels"]
