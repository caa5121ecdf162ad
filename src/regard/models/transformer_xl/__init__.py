"""Transformer-XL (Dai et al. 2019): a decoder with a memory of the segment before."""

from __future__ import annotations

from regard.models.transformer_xl.model import TransformerXl, TransformerXlConfig

__all__ = ["TransformerXl", "TransformerXlConfig"]
