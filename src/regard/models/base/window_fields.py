"""Windows in ``config.json``: how many tokens a token sees, and in which layers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from regard.errors import ConfigError

WINDOW = 4096
"""Default of ``sliding_window``."""
KINDS_OF_LAYERS = {False: "full_attention", True: "sliding_attention"}
"""Names of layers in ``layer_types``, by whether they have a window."""
MOST_LAYERS = 100_000
"""Far more than there are: with a damaged number, a list of layers would fill the memory."""


def read_window(fields: Mapping[str, Any]) -> int:
    """Read ``sliding_window``, the tokens that a token sees, itself counted.

    Args:
        fields: All values of ``config.json``.

    Returns:
        The window; 0 where it is null, which is none. Where it is missing it has the default of
        ``transformers``.

    Raises:
        ConfigError: It is not a whole number of 1 or more.
    """
    window = fields.get("sliding_window", WINDOW)
    if window is None:
        return 0
    if type(window) is not int or window < 1:
        raise ConfigError(
            f"config.json: sliding_window={json.dumps(window)}: a whole number of 1 or more, or "
            "null for none, was expected."
        )
    return window


def read_layer_types(fields: Mapping[str, Any], num_layers: int) -> list[bool] | None:
    """Read ``layer_types``: whether each layer has a window.

    Args:
        fields: All values of ``config.json``.
        num_layers: Layers of the model.

    Returns:
        Of each layer; None where the file does not say it.

    Raises:
        ConfigError: It is not a list with one known kind for each layer.
    """
    kinds = fields.get("layer_types")
    if kinds is None:
        return None
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise ConfigError(
            f"config.json: layer_types={json.dumps(kinds)[:80]}: a list of {num_layers} kinds, one "
            "for each layer, was expected."
        )
    names = {name: has_window for has_window, name in KINDS_OF_LAYERS.items()}
    for kind in kinds:
        if not isinstance(kind, str) or kind not in names:
            raise ConfigError(
                f"config.json: layer_types has {json.dumps(kind)}: no such variant here, known are "
                f"{', '.join(names)}."
            )
    return [names[kind] for kind in kinds]


def layers_with_window(
    fields: Mapping[str, Any], num_layers: int, has_window: Callable[[int], bool]
) -> list[bool]:
    """Return whether each layer has a window.

    Args:
        fields: All values of ``config.json``.
        num_layers: Layers of the model.
        has_window: Whether a layer has one where ``layer_types`` does not say it.

    Raises:
        ConfigError: ``layer_types`` has another form, or there are too many layers.
    """
    if num_layers > MOST_LAYERS:
        raise ConfigError(
            f"config.json: num_hidden_layers={num_layers}: {MOST_LAYERS:,} or fewer were expected."
        )
    kinds = read_layer_types(fields, num_layers)
    return [has_window(layer) for layer in range(num_layers)] if kinds is None else kinds


def window_setting(windows: Sequence[int]) -> int | tuple[int, ...]:
    """Return the windows of layers as a setting: one number where all have the same.

    >>> window_setting([8, 8]), window_setting([0, 8])
    (8, (0, 8))
    """
    return windows[0] if len(set(windows)) == 1 else tuple(windows)
