"""GPT-2 (Radford et al. 2019) and its modern successor, the default, which is Llama's."""

from __future__ import annotations

from regard.models.gpt.hf import GPT2_FORMAT
from regard.models.gpt.model import Gpt, GptConfig

__all__ = ["GPT2_FORMAT", "Gpt", "GptConfig"]
