"""Methods of attribution, one file each: scores of the features of a prediction."""

from __future__ import annotations

from collections.abc import Iterable

from regard.errors import ConfigError, did_you_mean
from regard.explain.attribution.flow import FLOW
from regard.explain.attribution.gradient_input import GRADIENT_INPUT
from regard.explain.attribution.integrated_gradients import INTEGRATED_GRADIENTS
from regard.explain.attribution.method import Attribution, Budget, Method
from regard.explain.attribution.occlusion import OCCLUSION
from regard.explain.attribution.random_scores import RANDOM
from regard.explain.attribution.raw_attention import RAW_ATTENTION
from regard.explain.attribution.rollout import ROLLOUT
from regard.settings.validation import require_texts

METHODS: dict[str, Method] = {
    "integrated_gradients": INTEGRATED_GRADIENTS,
    "gradient_input": GRADIENT_INPUT,
    "occlusion": OCCLUSION,
    "attention": RAW_ATTENTION,
    "rollout": ROLLOUT,
    "flow": FLOW,
    "random": RANDOM,
}
"""The methods by name."""

DEFAULT_METHODS = tuple(name for name, method in METHODS.items() if method.is_default)
"""Names of the methods that are computed where none is named."""

ALIASES = {"ig": "integrated_gradients", "leave_one_out": "occlusion"}
"""Other names of methods."""

__all__ = [
    "ALIASES",
    "DEFAULT_METHODS",
    "METHODS",
    "Attribution",
    "Budget",
    "Method",
    "method_names",
]


def method_names(names: Iterable[str]) -> list[str]:
    """Return the names of methods as `METHODS` has them, each once.

    Args:
        names: Names or aliases; hyphens and spaces count as underscores.

    Raises:
        ConfigError: No method has such a name, no name is given, or it is not a list of names.

    >>> method_names(["ig", "occlusion", "integrated-gradients"])
    ['integrated_gradients', 'occlusion']
    """
    resolved: dict[str, None] = {}
    for name in require_texts(names, "methods"):
        plain = name.strip().lower().replace("-", "_").replace(" ", "_")
        plain = ALIASES.get(plain, plain)
        if plain not in METHODS:
            hint = did_you_mean(plain, [*METHODS, *ALIASES])
            raise ConfigError(f"method {name!r}: one of {', '.join(METHODS)} was expected.{hint}")
        resolved[plain] = None
    if not resolved:
        raise ConfigError(f"no method is named.  Take one of {', '.join(METHODS)}.")
    return list(resolved)
