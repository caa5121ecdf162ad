"""Recurrent encoder-decoders (Sutskever, Vinyals & Le 2014) and their decoder alone."""

from __future__ import annotations

from regard.models.lstm.decoder_only import LstmDecoder
from regard.models.lstm.model import LstmConfig, LstmEncoderDecoder

__all__ = ["LstmConfig", "LstmDecoder", "LstmEncoderDecoder"]
