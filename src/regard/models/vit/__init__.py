"""Vision Transformer (Dosovitskiy et al. 2021): an encoder of images and of rows of features."""

from __future__ import annotations

from regard.models.vit.hf import VIT_FORMAT
from regard.models.vit.model import Vit, VitConfig

__all__ = ["VIT_FORMAT", "Vit", "VitConfig"]
