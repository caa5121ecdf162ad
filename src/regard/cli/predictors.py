"""Opening a model for a verb, which refuses models of other tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from regard.errors import ConfigError, NextStep, WeightsError
from regard.settings.values import DecodingPrecision

if TYPE_CHECKING:
    from regard.tasks.language_modeling.predictor import TextGenerator
    from regard.tasks.sequence_to_sequence.predictor import TargetWriter

P = TypeVar("P")
"""The predictor that a verb needs."""
_MOST_THREADS = 1024


def open_predictor(model: str, kind: type[P], action: str, device: str) -> P:
    """Open a model folder for a verb.

    Args:
        model: The folder.
        kind: Predictor that the verb needs.
        action: What the verb does, for the message, such as ``translate``.
        device: What computes.

    Returns:
        The predictor.

    Raises:
        ConfigError: The folder holds no model that can be read, or there is no such device.
        WeightsError: The model is missing or damaged, or its predictor is of another kind.
    """
    from regard.tasks.opening import open_model

    predictor = open_model(model, device)
    if not isinstance(predictor, kind):
        raise other_task(model, predictor.config.task, action)
    return predictor


def use_threads(threads: int | None) -> None:
    """Set the number of PyTorch's threads; None leaves it as it is.

    Raises:
        ConfigError: It is out of its range.
    """
    if threads is None:
        return
    if not 1 <= threads <= _MOST_THREADS:
        raise ConfigError(f"--threads must be 1 to {_MOST_THREADS:,}, not {threads}.")
    import torch

    torch.set_num_threads(threads)


def use_precision(
    predictor: TargetWriter | TextGenerator, precision: DecodingPrecision | None
) -> None:
    """Set the type of the weights that a model writes with; None leaves it as it is.

    Raises:
        ConfigError: The model cannot be decoded in this precision.
    """
    if precision is not None:
        predictor.precision = precision
        predictor.decoder  # noqa: B018 - made now, so that a refusal comes before the first line


def other_task(model: str, task: str, action: str) -> WeightsError:
    """Return the refusal of a model for another task, with the verb that uses it."""
    from regard.tasks import task_named

    verbs = task_named(task).verbs or (("info", None),)
    verb, word = verbs[0]
    arguments = (model,) if word is None else (model, word)
    return WeightsError(
        f"{model}: does not {action}: it is a model for {task}.",
        NextStep("Use", verb, arguments),
    )
