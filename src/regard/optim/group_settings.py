"""Settings of groups of parameters: what an optimizer obeys, and what schedulers keep there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch.optim import Optimizer

from regard.errors import ConfigError

_OF_GROUPS = {"params", "param_names"}
_OF_SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "swa_lr"}


def refuse_unknown_settings(
    optimizer: Optimizer, group: Mapping[str, Any], obeyed: Collection[str]
) -> None:
    """Refuse settings of a group that would be ignored, such as another optimizer's.

    Args:
        optimizer: The optimizer of the group.
        group: Its parameters and their settings.
        obeyed: Names of the settings that the optimizer obeys; with ``lr`` those that PyTorch's
            schedulers keep in a group are taken, too.

    Raises:
        ConfigError: There is another one.
    """
    taken = _OF_GROUPS.union(obeyed, _OF_SCHEDULERS if "lr" in obeyed else ())
    unknown = sorted(set(group) - taken)
    if unknown:
        raise ConfigError(
            f"{type(optimizer).__name__} has no setting {unknown[0]!r} of a group.  It takes: "
            f"{', '.join(obeyed)}"
        )


class GroupWithoutRate(dict[str, Any]):
    """A group of parameters that says why it has no learning rate.

    Args:
        group: Its settings.
        method: Name of the optimizer.
    """

    def __init__(self, group: Mapping[str, Any], method: str) -> None:
        super().__init__(group)
        self.method = method

    def __missing__(self, key: str) -> Any:
        """Raise an error about a setting that is not there."""
        if key != "lr":
            raise KeyError(key)
        raise ConfigError(
            f"{self.method} has no learning rate: a search finds the length of every step.  Leave "
            "out the scheduler."
        )
