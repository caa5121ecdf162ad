"""How published checkpoints of XLM-RoBERTa name and store the weights of a `Bert`: as RoBERTa's."""

from __future__ import annotations

from regard.models.roberta.hf import roberta_format

XLM_ROBERTA_FORMAT = roberta_format("xlm-roberta", "XLMRoberta")
"""Checkpoints of XLM-RoBERTa."""
