"""BERT (Devlin, Chang, Lee & Toutanova 2019): an encoder trained to predict masked tokens."""

from __future__ import annotations

from regard.models.bert.hf import BERT_FORMAT
from regard.models.bert.model import Bert, BertConfig

__all__ = ["BERT_FORMAT", "Bert", "BertConfig"]
