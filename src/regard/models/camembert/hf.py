"""How published checkpoints of CamemBERT name and store the weights of a `Bert`: as RoBERTa's."""

from __future__ import annotations

from regard.models.roberta.hf import roberta_format

CAMEMBERT_FORMAT = roberta_format("camembert", "Camembert")
"""Checkpoints of CamemBERT."""
