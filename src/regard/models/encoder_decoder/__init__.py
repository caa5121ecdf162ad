"""An encoder and a decoder of other families joined (Rothe, Narayan & Severyn 2020)."""

from __future__ import annotations

from regard.models.encoder_decoder.model import EncoderDecoderConfig, EncoderDecoderModel

__all__ = ["EncoderDecoderConfig", "EncoderDecoderModel"]
