"""The Transformer (Vaswani et al. 2017), its decoder and its encoder alone; Marian and BART."""

from __future__ import annotations

from regard.models.transformer.decoder_only import TransformerDecoder
from regard.models.transformer.encoder_only import TransformerEncoder
from regard.models.transformer.hf import BART_FORMAT, MARIAN_FORMAT
from regard.models.transformer.model import Transformer, TransformerConfig

__all__ = [
    "BART_FORMAT",
    "MARIAN_FORMAT",
    "Transformer",
    "TransformerConfig",
    "TransformerDecoder",
    "TransformerEncoder",
]
