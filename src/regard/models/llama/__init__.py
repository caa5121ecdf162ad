"""Llama (Touvron et al. 2023): a `Gpt` with its default settings.

RMS norm, rotary positions, SwiGLU, no biases; heads may share keys and values. Its checkpoint
format alone is here.
"""

from __future__ import annotations

from regard.models.llama.hf import LLAMA_FORMAT

__all__ = ["LLAMA_FORMAT"]
