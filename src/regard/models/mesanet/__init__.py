"""MesaNet (von Oswald et al. 2025): a decoder whose layers solve least squares over their past."""

from __future__ import annotations

from regard.models.mesanet.model import MesaNet, MesaNetConfig

__all__ = ["MesaNet", "MesaNetConfig"]
