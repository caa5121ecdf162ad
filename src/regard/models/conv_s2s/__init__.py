"""Convolutional sequence to sequence learning (Gehring et al. 2017) and its decoder alone."""

from __future__ import annotations

from regard.models.conv_s2s.decoder_only import ConvDecoder
from regard.models.conv_s2s.model import ConvS2S, ConvS2SConfig

__all__ = ["ConvDecoder", "ConvS2S", "ConvS2SConfig"]
