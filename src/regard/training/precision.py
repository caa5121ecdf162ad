"""Detection of fast bfloat16 matrix products, and the type to compute in.

Weights and optimizer state are always float32; only activations and the products take the type
chosen here.
"""

from __future__ import annotations

import torch

from regard.training.training_config import Precision


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether a device has hardware for bfloat16 (AVX-512 BF16, AMX, or a GPU)."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # of which it is asked, not of the first one
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def compute_dtype(precision: Precision) -> torch.dtype:
    """Return the type of activations for a precision that is not ``auto``."""
    return {"bf16": torch.bfloat16, "float32": torch.float32}[precision]
