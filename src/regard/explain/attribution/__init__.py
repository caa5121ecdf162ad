"""Methods of attribution, one file each: scores of the features of a prediction."""

from __future__ import annotations

from regard.explain.attribution.method import Attribution, Budget, Method

METHODS: dict[str, Method] = {}
"""The methods by name."""

__all__ = ["METHODS", "Attribution", "Budget", "Method"]
