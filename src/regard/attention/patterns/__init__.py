"""The attention patterns, one file each."""

from regard.attention.patterns.causal import Causal
from regard.attention.patterns.full import Full
from regard.attention.patterns.local import Local

__all__ = ["Causal", "Full", "Local"]
