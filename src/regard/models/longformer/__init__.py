"""Longformer (Beltagy, Peters & Cohan 2020): RoBERTa for long texts, local and global attention."""

from __future__ import annotations

from regard.models.longformer.hf import LONGFORMER_FORMAT
from regard.models.longformer.model import Longformer, LongformerConfig

__all__ = ["LONGFORMER_FORMAT", "Longformer", "LongformerConfig"]
